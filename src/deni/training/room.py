"""Whether there is room for the artifact of a training, asked before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from deni.outputs import check_room

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer


class RoomForArtifact(TrainerCallback):
    """Asks before the first step whether a disk has room for the artifact of a training.

    Args:
        folder: where the artifact will be saved.

    Raises:
        InputError: there is none; when training begins.
    """

    def __init__(self, trainer: PopulationTrainer, folder: str | Path) -> None:
        self.trainer, self.folder = trainer, folder

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        from deni.artifact import weight_sizes

        planned = self.trainer.phases.planned
        weights = weight_sizes(self.trainer.population, planned.at(planned.steps).members)
        check_room(self.folder, sum(weights), max(weights))
