"""Compares the members of a population after each fork, and before each merge or vote."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from deni.engine.buffers import kept_buffers
from deni.engine.module import in_mode
from deni.population import Population
from deni.randomness import global_generators
from deni.tasks import Task
from deni.training.dataloading import Loading
from deni.training.fork_records import Diagnostics, Measure, Record, disagreement, distance, total_variation

if TYPE_CHECKING:
    from deni.training.ballots import Predicted
    from deni.training.trainer import PopulationTrainer

logger = logging.getLogger(__name__)

FEWEST, MOST = 8, 32  # texts that members are compared on
Kind = Literal["training", "evaluation"]
Texts = dict[str, Any]  # a collated batch


class ForkMonitor:
    """The diagnostics of one training, as they come in.

    Args:
        runs: how many runs make one model.
        texts: gives the texts that members are compared on, and where they are from; None where there are none.
        predict: what every member predicts of a batch; the batch may have no labels afterwards.
        task: gives the task; None where predictions have no vote.
        log: takes the numbers.
    """

    def __init__(
        self,
        runs: int,
        texts: Callable[[], tuple[Kind, Texts | None]],
        predict: Callable[[Texts], Predicted],
        task: Callable[[], Task | None],
        log: Callable[[dict[str, float]], None],
    ) -> None:
        self.runs, self.texts, self.predict, self.task, self.log = runs, texts, predict, task, log
        self.diagnostics = Diagnostics()
        self._losses: dict[int, float] = {}  # of each member, summed over the parts of a step
        self._apart: list[tuple[float, float]] = []  # of each step since the last log, see `curves`

    def note(self, member: int, loss: float) -> None:
        """What a member's training loss on a part of the batch of the step under way adds to that of the batch."""
        self._losses[member] = self._losses.get(member, 0.0) + loss

    def after_step(self, members: int, runs: Collection[int]) -> None:
        """Keep how much higher the copies' training loss was than their parents'.

        Args:
            members: K, of each run.
            runs: those whose members had the same batch and a finite loss.
        """
        record = self.diagnostics.open
        if record is not None and members > 1:
            means = self._losses
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
            self.diagnostics.records[-1].labels = (task := self.task()) is not None and task.several
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
        with global_generators(), kept_buffers(population.model), in_mode(population.module, training=False):
            predicted = self.predict(texts)
        outputs, labels, task = predicted.outputs, predicted.labels, self.task()
        if task is not None:
            chosen = task.choose(outputs)
            if chosen is not None:
                odds = outputs.sigmoid()
                likely = outputs.softmax(-1) if task.distribution else torch.stack([odds, 1 - odds], -1)
                if task.of_words:
                    mask = texts.get("attention_mask", torch.ones_like(chosen[:, 0]))
                    real = mask == 1 if labels is None else labels != -100  # (N, T)
                    chosen, likely = chosen.transpose(1, 2)[real], likely.transpose(1, 2)[real]  # (tokens, M, ...)
                each = [list(group) for group in groups]
                measure.disagreement = float(np.mean([disagreement(chosen[:, at]) for at in each]))
                measure.total_variation = float(np.mean([total_variation(likely[:, at]) for at in each]))
        losses = predicted.losses  # (M,)
        if losses is None and labels is not None and task is not None:
            expected = (outputs[:, 0, ..., 0] if task.distribution or task.generates else outputs[:, 0]).numel()
            if labels.numel() == expected:
                folded = labels.repeat(population.size, *[1] * (labels.dim() - 1))  # (M*N, ...)
                losses = task.member_losses(outputs.transpose(0, 1).flatten(0, 1), folded, population.size)
        if losses is not None and population.members > 1:
            copies = [at for each in groups for at in each[1:]]
            measure.parent_loss = float(losses[[each[0] for each in groups]].mean())
            measure.copies_loss = float(losses[copies].mean())
        return measure, texts_in(texts)


def texts_in(texts: Texts) -> int:
    """N of a batch."""
    return next((len(value) for value in texts.values() if isinstance(value, Tensor) and value.dim()), 0)


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


def monitor_of(trainer: PopulationTrainer) -> ForkMonitor:
    """The monitor that compares the members of a training of this trainer."""

    def texts() -> tuple[Kind, Texts | None]:
        wanted = trainer.phases.planned.steps * trainer.args.train_batch_size // 100
        sets: dict[Kind, Any] = {"evaluation": trainer.eval_dataset, "training": trainer.train_dataset}
        return texts_to_compare(trainer.loading, sets, wanted)

    def predict(batch: Texts) -> Predicted:
        loss_only = trainer.ballots.task.known() is None
        return trainer.ballots.collect(trainer.shown.computed, dict(batch), None, loss_only)

    return ForkMonitor(trainer.strategy.runs, texts, predict, lambda: trainer.ballots.task.known(), trainer.log)
