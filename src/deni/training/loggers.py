"""Where training curves are logged: TensorBoard, Weights & Biases, MLflow, or nowhere."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import (
    MLflowCallback,
    TensorBoardCallback,
    WandbCallback,
    is_mlflow_available,
    is_tensorboard_available,
    is_wandb_available,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from deni.errors import InputError
from deni.models.reading import read_json
from deni.outputs import write_bytes
from deni.progress import ProgressBar
from deni.strategies import Strategy
from deni.training.curves import TOOLS
from deni.training.pace import Pace

_RUN = "mlflow.json"  # in a checkpoint: the id of its run


class _InFolder(TensorBoardCallback):
    """Transformers' callback for TensorBoard, with a folder of our choice; each version has another setting for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def _init_summary_writer(self, *_: Any) -> None:
        self.tb_writer = self._SummaryWriter(log_dir=str(self.folder))


class _OneRun(MLflowCallback):
    """Transformers' callback for MLflow, with the settings of the recipe; test scores go into the run of the training.

    Args:
        name: of the run.
        settings: JSON values, which become parameters.
        resumed: whether the run of the checkpoint goes on.
    """

    def __init__(self, name: str, settings: Mapping[str, Any], resumed: bool = False) -> None:
        super().__init__()
        self.name, self.settings, self.resumed = name, settings, resumed
        self.run: str | None = None  # of the training, once that has begun

    def setup(self, args: Any, state: Any, model: Any) -> None:
        mlflow = self._ml_flow
        try:
            before = self._run_before(args, state)
            if before is None:
                super().setup(args, state, model)
            else:
                mlflow.start_run(run_id=before)
                # Its parameters are there, and MLflow lets none change.
                super().setup(SimpleNamespace(run_name=self.name, to_dict=dict), state, None)
                self._auto_end_run = True
            active = mlflow.active_run()
            if active is not None:
                self.run = active.info.run_id
                if before is None:
                    if self._auto_end_run:
                        mlflow.set_tag("mlflow.runName", self.name)
                    mlflow.log_params(dict(parameters(self.settings, "recipe")))
                mlflow.flush_async_logging()
        except mlflow.exceptions.MlflowException as error:
            raise InputError(
                f"--report-to mlflow cannot log to {mlflow.get_tracking_uri()}: {' '.join(str(error).split()):.200}"
            ) from error

    def _run_before(self, args: Any, state: Any) -> str | None:
        """The run of the checkpoint, unless MLflow has lost it or its own variable names another."""
        file = _checkpoint(args, state) / _RUN
        if not self.resumed or not state.is_world_process_zero or os.environ.get("MLFLOW_RUN_ID") or not file.is_file():
            return None
        run = read_json(file).get("run")
        try:
            found = self._ml_flow.MlflowClient().get_run(run)
        except self._ml_flow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if found.info.lifecycle_stage == "active" else None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        super().on_save(args, state, control)
        folder = _checkpoint(args, state)
        if self.run is not None and folder.is_dir():
            with suppress(InputError):  # without it a resumed training begins a run
                write_bytes(folder / _RUN, json.dumps({"run": self.run}).encode(), overwrite=True)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **_: Any) -> None:
        if self.run is None or self._ml_flow.active_run() is not None:
            super().on_log(args, state, control, logs, model=model)
            return
        with self._ml_flow.start_run(run_id=self.run):  # which has ended: what follows the training belongs to it
            super().on_log(args, state, control, logs, model=model)
            self._ml_flow.flush_async_logging()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._ml_flow.flush_async_logging()
        super().on_train_end(args, state, control)


def _checkpoint(args: Any, state: Any) -> Path:
    """The checkpoint of this step, or the one that the training has just gone on from."""
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def parameters(settings: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as MLflow takes them: names with dots, and values that are given.

    >>> dict(parameters({"strategy": {"name": "deni", "members": 3}, "seed": None}, "recipe"))
    {'recipe.strategy.name': 'deni', 'recipe.strategy.members': 3}
    """
    for key, value in settings.items():
        path = f"{name}.{key}" if name else str(key)
        if isinstance(value, Mapping):
            yield from parameters(value, path)
        elif value is not None:
            yield path, value


def check_tool(tool: str) -> None:
    """Raise InputError for a tool that does not exist or is not installed."""
    if tool not in TOOLS:
        raise InputError(f"unknown --report-to {tool!r}: choose from {', '.join(TOOLS)}")
    has = {"none": True, "tensorboard": is_tensorboard_available(), "wandb": is_wandb_available()}
    has["mlflow"] = is_mlflow_available()
    if not has[tool]:
        raise InputError(f'--report-to {tool} needs the package {tool}: pip install "deni[{tool}]"')


def curves_to(
    tool: str,
    folder: str | Path,
    name: str = "deni",
    settings: Mapping[str, Any] | None = None,
    resumed: bool = False,
) -> list[TrainerCallback]:
    """The callbacks that write the curves.

    Args:
        tool: one of `deni.training.curves.TOOLS`.
        folder: for TensorBoard's files; Weights & Biases and MLflow have their own environment variables.
        name: of the run, for MLflow.
        settings: of the recipe, for MLflow.
        resumed: whether MLflow's run of the checkpoint goes on.

    Raises:
        InputError: see `check_tool`.
    """
    check_tool(tool)
    if tool == "none":
        return []
    if tool == "mlflow":
        return [_OneRun(name, settings or {}, resumed)]
    return [_InFolder(Path(folder))] if tool == "tensorboard" else [WandbCallback()]


class Bar(TrainerCallback):
    """Shows how far a training is, with the last values of the curves; the time left follows the member-steps.

    Args:
        strategy: who trains when.
        what: is being trained, for the reader.
    """

    def __init__(self, strategy: Strategy, what: str = "train") -> None:
        self.strategy, self.what = strategy, what
        self.last: dict[str, float] = {}
        self._bar: ProgressBar | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._pace = Pace(self.strategy.tiled(state.max_steps))
            done = self._pace.member_steps(state.global_step)
            self._bar = ProgressBar(self.what, self._pace.schedule.cost, done, "member-steps")
            self._since = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._bar is None:
            return
        now, done = time.monotonic(), state.global_step
        self._pace.note(done - 1, now - self._since)
        self._since = now
        members = self._pace.schedule.runs * self._pace.schedule.at(done - 1).members
        values = (f"{name} {value:.4g}" for name, value in self.last.items())
        text = ", ".join((f"step {done}/{state.max_steps}", f"members {members}", *values))
        self._bar.update(self._pace.member_steps(done), text, self._pace.seconds_left(done))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        names = ("loss", "eval_macro_f1", "eval_rmse", "eval_entity_f1")
        self.last |= {name.removeprefix("eval_"): logs[name] for name in names if name in (logs or {})}

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.__exit__()
