"""Where the curves of a training go while it runs: TensorBoard, Weights & Biases, or nowhere."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from transformers import ProgressCallback, TrainerCallback
from transformers.integrations import (
    TensorBoardCallback,
    WandbCallback,
    is_tensorboard_available,
    is_wandb_available,
)

from deni.errors import InputError

Tool = Literal["none", "tensorboard", "wandb"]
TOOLS: tuple[Tool, ...] = ("none", "tensorboard", "wandb")


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


def curves_folder(output: str | Path, resume: bool) -> Path:
    """Where TensorBoard's files are: beside the artifact, a folder for each run; one that is resumed keeps its own.

    Args:
        output: the artifact.
        resume: whether the run goes on from a checkpoint.
    """
    runs = Path(output).with_name(Path(output).name + ".runs")
    before = sorted(each for each in runs.glob("*") if each.is_dir()) if resume else []
    return before[-1] if before else runs / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def curves_to(tool: str, folder: str | Path) -> list[TrainerCallback]:
    """The callbacks that write the curves.

    Args:
        tool: one of `TOOLS`.
        folder: for TensorBoard's files; Weights & Biases has its own environment variables.

    Raises:
        InputError: see `check_tool`.
    """
    check_tool(tool)
    if tool == "none":
        return []
    return [_InFolder(Path(folder))] if tool == "tensorboard" else [WandbCallback()]


class Bar(ProgressCallback):
    """A progress bar that shows the last values of the curves; transformers' own prints each of them on a line."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        names = ("loss", "members", "eval_macro_f1", "eval_rmse", "eval_entity_f1")
        self.last |= {name: logs[name] for name in names if name in (logs or {})}
        if self.training_bar is not None:
            self.training_bar.set_postfix(self.last)
