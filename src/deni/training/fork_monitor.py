"""Compares the members of a population after each fork, and before each merge or vote."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from deni.engine.module import in_mode
from deni.population import Population
from deni.randomness import global_generators
from deni.tasks import Task
from deni.training.dataloading import Loading
from deni.training.fork_records import Diagnostics, Measure, Record, disagreement, distance

logger = logging.getLogger(__name__)

FEWEST, MOST = 8, 32  # texts that members are compared on
Kind = Literal["training", "evaluation"]
Texts = dict[str, Any]  # a collated batch


class ForkMonitor:
    """The diagnostics of one training, as they come in.

    Args:
        runs: how many runs make one model.
        texts: gives the texts that members are compared on, and where they are from; None where there are none.
        outputs: what every member predicts of a batch, `(N, M, C)` or `(N, M, T, C)`, and its labels, if it has some;
            the batch has none afterwards.
        task: gives the task.
        log: takes the numbers.
    """

    def __init__(
        self,
        runs: int,
        texts: Callable[[], tuple[Kind, Texts | None]],
        outputs: Callable[[Texts], tuple[Tensor, Tensor | None]],
        task: Callable[[], Task],
        log: Callable[[dict[str, float]], None],
    ) -> None:
        self.runs, self.texts, self.outputs, self.task, self.log = runs, texts, outputs, task, log
        self.diagnostics = Diagnostics()
        self._losses: dict[int, float] = {}  # of each member, summed over the parts of a step
        self._apart: list[tuple[float, float]] = []  # of each step since the last log, see `curves`

    def note(self, member: int, loss: float) -> None:
        """A member's training loss on a part of the batch of the step under way."""
        self._losses[member] = self._losses.get(member, 0.0) + loss

    def after_step(self, members: int, runs: Collection[int], parts: int) -> None:
        """Keep how much higher the copies' training loss was than their parents'.

        Args:
            members: K, of each run.
            runs: those whose members had the same batch and a finite loss.
            parts: in how many the batch of the step came.
        """
        record = self.diagnostics.open
        if record is not None and members > 1:
            means = {at: loss / parts for at, loss in self._losses.items()}
            excess = [means[run * members + copy] - means[run * members] for run in runs for copy in range(1, members)]
            if excess:
                record.excess.append(float(np.mean(excess)))
                sds = [np.std([means[run * members + at] for at in range(members)]) for run in runs]
                self._apart.append((record.excess[-1], float(np.mean(sds))))
        self._losses = {}

    def curves(self) -> dict[str, float]:
        """How different the members were in training since this was asked for last, mean over the steps.

        The copies' loss minus their parent's, and the SD of the members' losses, on the same batches; nothing where
        there was one member, or where each has its own batches.
        """
        apart, self._apart = self._apart, []
        names = ("members_excess_loss", "members_loss_sd")
        return dict(zip(names, np.mean(apart, axis=0).tolist(), strict=True)) if apart else {}

    def compare(
        self, population: Population, frozen: Collection[int], what: Literal["fork", "merge", "vote"], step: int
    ) -> None:
        """Measure the members when `step` optimizer steps are done, and log it.

        Args:
            frozen: runs that are not compared.
        """
        independent = population.members == 1  # runs of an ensemble
        members = self.runs if independent else population.members
        kind, texts = self.texts()
        measure, count = self._measure(population, frozen, members, texts)
        if what == "fork" or self.diagnostics.open is None:
            self.diagnostics.records.append(Record(step if what == "fork" else 0, members, count, kind))
            self.diagnostics.records[-1].labels = self.task().several
        record = self.diagnostics.records[-1]
        if what == "fork":
            record.start = measure
        else:
            record.end, record.stop, record.how = measure, step, what
            for warning in record.warnings():
                logger.warning(f"Warning: {warning}")
        numbers = {**dataclasses.asdict(measure), "loss_jump": measure.jump}
        self.log({f"members_{name}": round(value, 6) for name, value in numbers.items() if value is not None})

    @torch.no_grad()
    def _measure(
        self, population: Population, frozen: Collection[int], members: int, texts: Texts | None
    ) -> tuple[Measure, int]:
        """Compare the members of each model, without dropout; and how many texts they were asked for."""
        groups = [range(at, at + members) for at in range(0, population.size, members)]
        groups = [each for each in groups if not {at // population.members for at in each} & set(frozen)]
        apart = [distance(population.values, each) for each in groups]
        measure = Measure(None, float(np.mean(apart)) if apart else math.nan)
        if not groups or texts is None:
            return measure, 0
        with global_generators(), in_mode(population.module, training=False):
            outputs, labels = self.outputs(texts)
        task = self.task()
        chosen = task.choose(outputs)
        if task.of_words:
            mask = texts.get("attention_mask", torch.ones_like(chosen[:, 0]))
            real = mask == 1 if labels is None else labels != -100  # (N, T)
            chosen = chosen.transpose(1, 2)[real]  # (tokens, M)
        if chosen is not None:
            measure.disagreement = float(np.mean([disagreement(chosen[:, at]) for at in map(list, groups)]))
        expected = (outputs[:, 0, ..., 0] if task.distribution else outputs[:, 0]).numel()
        if labels is not None and labels.numel() == expected and population.members > 1:
            folded = labels.repeat(population.size, *[1] * (labels.dim() - 1))  # (M*N, ...)
            losses = task.member_losses(outputs.transpose(0, 1).flatten(0, 1), folded, population.size)  # (M,)
            copies = [at for each in groups for at in each[1:]]
            measure.parent_loss = float(losses[[each[0] for each in groups]].mean())
            measure.copies_loss = float(losses[copies].mean())
        return measure, len(outputs)


def texts_to_compare(loading: Loading, sets: Mapping[Kind, Any], wanted: int) -> tuple[Kind, Texts | None]:
    """Some rows of the first of these datasets that has some, evenly spaced.

    Args:
        sets: None, several, or a stream are passed over.
        wanted: how many, within `FEWEST` and `MOST`.
    """
    for kind, dataset in sets.items():
        if dataset is None or isinstance(dataset, dict | IterableDataset) or not len(dataset):
            continue
        count = min(len(dataset), max(FEWEST, min(MOST, wanted)))
        return kind, loading.batch(dataset, [at * len(dataset) // count for at in range(count)], kind)
    return "training", None
