"""Where training curves are logged: TensorBoard, Weights & Biases, or nowhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import (
    TensorBoardCallback,
    WandbCallback,
    is_tensorboard_available,
    is_wandb_available,
)

from deni.errors import InputError
from deni.progress import ProgressBar
from deni.strategies import Strategy
from deni.training.curves import TOOLS
from deni.training.pace import Pace


class _InFolder(TensorBoardCallback):
    """Transformers' callback for TensorBoard, with a folder of our choice; each version has another setting for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def _init_summary_writer(self, *_: Any) -> None:
        self.tb_writer = self._SummaryWriter(log_dir=str(self.folder))


def check_tool(tool: str) -> None:
    """Raise InputError for a tool that does not exist or is not installed."""
    if tool not in TOOLS:
        raise InputError(f"unknown --report-to {tool!r}: choose from {', '.join(TOOLS)}")
    has = {"none": True, "tensorboard": is_tensorboard_available(), "wandb": is_wandb_available()}
    if not has[tool]:
        raise InputError(f'--report-to {tool} needs the package {tool}: pip install "deni[{tool}]"')


def curves_to(tool: str, folder: str | Path) -> list[TrainerCallback]:
    """The callbacks that write the curves.

    Args:
        tool: one of `deni.training.curves.TOOLS`.
        folder: for TensorBoard's files; Weights & Biases has its own environment variables.

    Raises:
        InputError: see `check_tool`.
    """
    check_tool(tool)
    if tool == "none":
        return []
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
