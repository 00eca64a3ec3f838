"""Which tools show training curves, and where TensorBoard's files are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

Tool = Literal["none", "tensorboard", "wandb", "mlflow"]
TOOLS: tuple[Tool, ...] = ("none", "tensorboard", "wandb", "mlflow")


def curves_folder(output: str | Path, resume: bool) -> Path:
    """The folder of TensorBoard's files: next to the artifact, one for each run; a resumed run keeps its own.

    Args:
        output: the artifact.
        resume: whether the run goes on from a checkpoint.
    """
    runs = Path(output).with_name(Path(output).name + ".runs")
    before = sorted(each for each in runs.glob("*") if each.is_dir()) if resume else []
    return before[-1] if before else runs / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
