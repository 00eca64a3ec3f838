"""How long packs take, from a few steps: for the size of packs, and for how long a study will take."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from deni.data import Texts
from deni.engine.memory import STATES, available
from deni.errors import InputWarning
from deni.finetune import FineTuneResult, fine_tune
from deni.finetune.generating import GeneratorResult
from deni.models.tokenizing import tokenize
from deni.provenance import canonical
from deni.strategies import Default, DelayedEnsemble
from deni.study.cell import Cell, NamedSettings
from deni.study.execution.answering import Answered
from deni.study.execution.job import Job
from deni.study.library import Library

STEPS, WARM = 8, 2  # timed in a training, after others
PREDICTED = 64  # texts whose prediction is timed
WORSE = 1.05  # a larger pack that takes so much longer for a cell ends the search
MOST = 32  # members in the largest population that is measured


@dataclass(frozen=True)
class Timing:
    """What was measured of one population.

    Args:
        member_step: seconds of an optimizer step of one member.
        around: seconds that a training takes besides its steps: the model is loaded and tried out.
        prediction: seconds for one text and one member.
        member_bytes: of the values, gradients and states of one member.
    """

    member_step: float
    around: float
    prediction: float
    member_bytes: int


@dataclass
class Pace:
    """Populations of one model, tuning and dataset; each is measured when it is first asked for.

    Args:
        measure: measures a population of so many runs with so many members each.
    """

    measure: Callable[[int, int], Timing]
    measured: dict[tuple[int, int], Timing] = field(default_factory=dict)

    def of(self, runs: int, members: int) -> Timing:
        """Of the nearest number of runs that was measured with so many members; measured now if there is none."""
        with_as_many = [each for each in self.measured if each[1] == members]
        if not with_as_many:
            return self.at(runs, members)
        return self.measured[min(with_as_many, key=lambda each: (abs(each[0] - runs), each))]

    def at(self, runs: int, members: int) -> Timing:
        """Of these runs and members, or of as many as are worth a measurement."""
        runs, members = min(runs, MOST), min(members, max(1, MOST // min(runs, MOST)))
        if (runs, members) not in self.measured:
            self.measured[runs, members] = self.measure(runs, members)
        return self.measured[runs, members]


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
    spent: float = 0.0  # seconds that the measurements took
    _paces: dict[str, Pace] = field(default_factory=dict, repr=False)

    def size(self, pack: Sequence[Job]) -> int:
        """How many cells of a pack to train at a time: those with the least time for a cell that fit into memory."""
        peak = pack[0].schedule.peak
        if not peak:  # a baseline, which is fitted once for all of them
            return len(pack)
        pace, seconds = self._pace(pack[0].cell), dict[int, float]()
        size = 1
        while size <= len(pack) and (size == 1 or size * peak <= MOST):
            for runs, members in _populations(pack[0], size):
                timing = pace.at(runs, members)
                if size > 1 and timing.member_bytes * peak * size > available(self.device) / 2:
                    return min(seconds, key=seconds.__getitem__)
            seconds[size] = self.seconds(pack[:size], size) / size
            if seconds[size] > WORSE * min(seconds.values()):
                break
            size *= 2
        return min(seconds, key=seconds.__getitem__)

    def seconds(self, pack: Sequence[Job], size: int) -> float:
        """How long cells take that are trained so many at a time; the seconds of a baseline do not count."""
        if not pack[0].schedule.peak:
            return 0.0
        pace, total = self._pace(pack[0].cell), 0.0
        for job in pack:
            schedule = job.schedule
            for phase in schedule:
                timing = pace.of(size * schedule.runs, phase.members)
                total += timing.member_step * phase.cost * schedule.runs * schedule.passes
            timing = pace.of(size * schedule.runs, schedule.phases[-1].members)
            texts = len(job.texts(self.library)[1])
            merged = schedule.runs == 1 < schedule.phases[-1].members  # their mean predicts, too
            total += timing.prediction * texts * (schedule.runs * schedule.phases[-1].members + merged)
        return total + -(-len(pack) // size) * min(each.around for each in pace.measured.values())

    def _pace(self, cell: Cell) -> Pace:
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
        at = canonical(plain.to_json())
        if at not in self._paces:
            self._paces[at] = Pace(lambda runs, members: self._measured(plain, runs, members))
        return self._paces[at]

    def _measured(self, cell: Cell, runs: int, members: int) -> Timing:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        recipe = cell.resolve()
        train, test = self.library.parts(cell, recipe.strategy)
        # Whatever the strategy, the members fork before the first step, so that all steps are of that many.
        strategy = Default() if members == 1 else DelayedEnsemble(members=members, ensemble_from=0.0)
        few = _some(train, (STEPS + WARM) * recipe.batch_size)
        epochs = -(-(STEPS + WARM) // -(-len(few) // recipe.batch_size))
        recipe = dataclasses.replace(recipe, strategy=strategy, epochs=epochs)
        clock, began = _Clock(), time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)
                fitted = fine_tune(
                    few, recipe, seeds=range(runs), progress=False, callbacks=[clock], device=self.device
                )
            around = time.perf_counter() - began - sum(clock.steps)
            prediction = _prediction(fitted, _some(test, PREDICTED))
            self.spent += time.perf_counter() - began
        finally:
            torch.set_num_threads(before)
        values = fitted.trainer.population.values.values()
        held = sum(value.nbytes for value in values) // fitted.trainer.population.size * (2 + STATES)
        return Timing(float(np.mean(clock.steps[WARM:])) / runs / members, around, prediction, held)


def _populations(job: Job, size: int) -> set[tuple[int, int]]:
    """Runs, and members of each, of the populations that so many cells train."""
    return {(size * job.schedule.runs, phase.members) for phase in job.schedule}


def _some(texts: Texts, most: int) -> Texts:
    """At most so many texts, from the whole of them."""
    return texts.select(np.linspace(0, len(texts) - 1, min(len(texts), most)).astype(int).tolist())


def _prediction(fitted: FineTuneResult, texts: Texts) -> float:
    """Seconds that a text takes for one member."""
    if not len(texts):
        return 0.0
    if isinstance(fitted, GeneratorResult):
        return _answering(fitted, texts)
    tokens = tokenize(texts, fitted.tokenizer, fitted.max_length, fitted.labels, fitted.recipe.pairs == "bi")
    tokens = tokens.select(np.argsort([len(ids) for ids in tokens["input_ids"]], kind="stable"))
    began = time.perf_counter()
    fitted.trainer.predict_members(tokens)
    return (time.perf_counter() - began) / len(texts) / fitted.trainer.population.size


def _answering(fitted: GeneratorResult, texts: Texts) -> float:
    """The same where it answers, as long as it may: what has learned nothing does not know where an answer ends."""
    population, began = fitted.trainer.population, time.perf_counter()
    answered = Answered(fitted, texts, population.runs)
    between = time.perf_counter()
    answered.of(0, range(population.members))
    likelihoods, answers = between - began, time.perf_counter() - between
    asked = population.members + (answered.merged is not None)
    return (likelihoods / population.size + answers / asked) / len(texts)


class _Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.perf_counter() - self._began)
