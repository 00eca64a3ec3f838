"""The steps before the first fork, trained once for all strategies that differ only in their forks."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from deni.finetune.together import origin_of_runs
from deni.provenance import digest
from deni.recipe import Recipe
from deni.study.execution.job import Job

SECONDS = "seconds.txt"


@dataclass(frozen=True)
class Trunk:
    """A pack as it is just before its first fork.

    Args:
        folder: of its checkpoint; not there before the first pack that has this trunk comes by.
        step: the optimizer steps that are done.
    """

    folder: Path
    step: int

    @property
    def seconds(self) -> float:
        """How long it took; 0 where it is not there."""
        file = self.folder / SECONDS
        return float(file.read_text(encoding="utf-8")) if file.is_file() else 0.0

    @property
    def there(self) -> Path | None:
        """Its checkpoint, to go on from."""
        return self.folder if self.folder.is_dir() else None


def trunk_of(jobs: Sequence[Job], folder: str | Path) -> Trunk | None:
    """The trunk of a pack; None where it has none: no fork, or one before the first step.

    Args:
        folder: where trunks are kept.
    """
    first = jobs[0]
    step = next((phase.start for phase in first.schedule if phase.members > 1), 0)
    if not step:
        return None
    shared = {
        **first.decides,
        "strategy": [first.recipe.strategy.name, first.recipe.strategy.before_fork()],
        "whole": first.recipe.strategy.scope == "trainable",  # see `training.vocabulary`: then all embeddings train
        "seeds": [job.cell.seeds for job in jobs],
        **_before_fork([job.recipe for job in jobs]),
    }
    return Trunk(Path(folder) / digest({**shared, "seed": None, "step": step})[:32], step)


def _before_fork(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """What the recipes of a pack have of their own before the first fork."""
    return {name: value for name, value in origin_of_runs(recipes).items() if name == "runs"}


class KeepTrunk(TrainerCallback):
    """Writes the trunk when training comes to its end, whole or not at all."""

    def __init__(self, trunk: Trunk) -> None:
        self.trunk, self._began = trunk, time.perf_counter()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.trunk.step:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step != self.trunk.step or self.trunk.there:
            return
        unfinished = self.trunk.folder.with_name(f"unfinished.{uuid.uuid4().hex}")
        try:
            shutil.copytree(Path(args.output_dir) / f"checkpoint-{state.global_step}", unfinished)
            (unfinished / SECONDS).write_text(f"{time.perf_counter() - self._began:.3f}", encoding="utf-8")
            os.rename(unfinished, self.trunk.folder)
        except OSError:  # another worker was faster, or the disk is full: without it this pack goes on, too
            shutil.rmtree(unfinished, ignore_errors=True)
