"""How long a member-step takes, from a few steps: for the size of packs, and for how long a study will take."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from deni.engine.memory import STATES, available
from deni.errors import InputWarning
from deni.finetune import fine_tune
from deni.provenance import canonical
from deni.study.cell import Cell, NamedSettings
from deni.study.execution.job import Job
from deni.study.library import Library

STEPS = 5
WORSE = 1.05  # a larger pack that takes so much longer for a member-step ends the search
MOST = 32


@dataclass(frozen=True)
class Pace:
    """What was measured of one model, tuning and dataset.

    Args:
        seconds: runs in a pack -> seconds of a member-step.
        member_bytes: of the values, gradients and states of one member.
        most: runs in the largest pack that was thought of; those between were not worth a measurement.
    """

    seconds: dict[int, float]
    member_bytes: int
    most: int

    def best(self, most: int) -> int:
        """The size with the fastest member-step, of those up to `most`."""
        return min((size for size in self.seconds if size <= max(most, 1)), key=self.seconds.__getitem__)


@dataclass
class Calibration:
    """Measures each combination of dataset, model, tuning and recipe once.

    Args:
        library: the texts that are read already.
        threads: torch's threads of a worker.
        device: where a worker trains.
    """

    library: Library
    threads: int
    device: torch.device
    _paces: dict[str, Pace] = field(default_factory=dict, repr=False)

    def size(self, pack: Sequence[Job]) -> int:
        """How many cells of a pack to train at a time: the fastest for a member-step of what fits into memory."""
        peak = pack[0].schedule.peak
        if not peak:  # a baseline, which is fitted once for all of them
            return len(pack)
        pace = self._pace(pack[0].cell, len(pack))
        return pace.best(min(len(pack), int(available(self.device) / 2 / max(pace.member_bytes * peak, 1))))

    def seconds(self, pack: Sequence[Job], size: int) -> float:
        """How long a pack takes, trained so many cells at a time; the seconds of a baseline do not count."""
        if not pack[0].schedule.peak:
            return 0.0
        pace = self._pace(pack[0].cell, len(pack))
        near = min(pace.seconds, key=lambda measured: abs(measured - size))
        return pace.seconds[near] * sum(each.member_steps for each in pack)

    def _pace(self, cell: Cell, most: int) -> Pace:
        plain = dataclasses.replace(
            cell,
            strategy=NamedSettings("default"),
            recipe={**cell.recipe, "epochs": 1, "learning_rate": 1e-9},  # so that it takes the time and learns nothing
            factor={},
            label="",
            seed=0,
            block=0,
            sources={},
        )
        at, most = canonical(plain.to_json()), min(most, MOST)
        if at not in self._paces or self._paces[at].most < most:
            self._paces[at] = _measured(plain, self.library, most, self.threads, self.device)
        return self._paces[at]


def _measured(cell: Cell, library: Library, most: int, threads: int, device: torch.device) -> Pace:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    recipe = cell.resolve()
    train, _ = library.parts(cell, recipe.strategy)
    count = min(len(train), STEPS * recipe.batch_size)
    few = train.select(np.linspace(0, len(train) - 1, count).astype(int).tolist())
    seconds: dict[int, float] = {}
    held = 0
    try:
        size = 1
        while size <= most:
            clock = _Clock()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)
                fitted = fine_tune(few, recipe, seeds=range(size), progress=False, callbacks=[clock], device=device)
            values = fitted.trainer.population.values.values()
            held = sum(value.nbytes for value in values) // size * (2 + STATES)
            seconds[size] = min(clock.steps[1:] or clock.steps) / size
            if seconds[size] > WORSE * min(seconds.values()):
                break
            size *= 2
    finally:
        torch.set_num_threads(before)
    return Pace(seconds, held, most)


class _Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.perf_counter() - self._began)
