"""Members that are computed one after another by what Trainer does with one model: where the loss needs the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deni.training.batches import copied
from deni.training.compat import mixed_precision
from deni.training.dataloading import Loading
from deni.training.losses import Losses, Parts
from deni.training.phases import Phases

Step = tuple[Any, Any, Any]  # what `Trainer.prediction_step` returns


class Alone:
    """Each member by itself, on its own rows, as they would be without the other runs of a pack.

    Args:
        phases: which members there are.
        loading: divides the rows of a pack.
        losses: count items.
        parts: of the batch of a step.
        accelerator: of the trainer.
    """

    def __init__(
        self, phases: Phases, loading: Loading, losses: Losses, parts: Parts, accelerator: Callable[[], Accelerator]
    ) -> None:
        self.phases, self.loading, self.losses, self.parts = phases, loading, losses, parts
        self.accelerator = accelerator

    @contextmanager
    def member(self, member: int) -> Iterator[nn.Module]:
        """Inside, the plain module is this member, as accelerate would have prepared it."""
        with self.phases.population.module.computing(member) as plain, mixed_precision(plain, self.accelerator()):
            yield plain

    def rows(self, inputs: Mapping[str, Any], lengths: Tensor | None, member: int) -> dict[str, Any]:
        """A copy of a member's rows of a batch.

        Args:
            inputs: of all runs, or lanes.
            lengths: T that each would have alone; None where all members share the rows.
        """
        size, groups = self.phases.population.size, 1 if lengths is None else len(lengths)
        rows = self.loading.rows_of(inputs, lengths, member * groups // size)
        return copied(rows) if size > 1 else rows

    def train(
        self,
        step: Callable[[nn.Module, dict[str, Any], Any], Tensor],
        inputs: Mapping[str, Any],
        lengths: Tensor | None,
        at: int,
    ) -> Tensor:
        """Forward and backward of all members on a part of a batch; what it adds to the sum of their losses.

        Args:
            step: of one model, on its rows and `num_items_in_batch`: the loss.
            inputs, lengths: see `rows`.
            at: the optimizer step under way.
        """
        population, failures = self.phases.population, self.phases.failures
        size, groups = population.size, 1 if lengths is None else len(lengths)
        total = torch.zeros((), device=self.accelerator().device)
        for member in range(size):
            if member // population.members in failures.runs:
                continue
            rows = self.rows(inputs, lengths, member)
            with self.member(member) as plain, self.parts.weighing(member * groups // size) as share:
                loss = step(plain, rows, self.losses.items(rows))
            loss = loss if share is None else loss * share.to(loss)
            if self.phases.note(member, float(loss), at):
                total = total + loss
        return total

    def predict(
        self, step: Callable[[nn.Module, dict[str, Any]], Step], inputs: Mapping[str, Any], lengths: Tensor | None
    ) -> list[Step]:
        """What `step` gives for each member; arguments as of `train`."""
        steps = []
        for member in range(self.phases.population.size):
            with self.member(member) as plain:
                steps.append(step(plain, self.rows(inputs, lengths, member)))
        return steps
