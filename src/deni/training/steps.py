"""What an optimizer step computes: the rows that each member trains on, its loss, forward and backward passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deni.engine import heap
from deni.errors import SettingError
from deni.models.products import fast_products
from deni.tasks.losses import Soft
from deni.training.ballots import Ballots
from deni.training.batches import LENGTHS
from deni.training.compat import Columns
from deni.training.dataloading import Loading, lanes_of
from deni.training.losses import Losses, Parts, first_output, given
from deni.training.soft_labels import check_batch


class MemberPasses:
    """The forward passes of the members in focus, see `deni.strategies.base.Passes`.

    Args:
        forward: computes them.
        labels: folded.
        soft: targets and weights of the rows, folded; None where labels are all there is.
        members: how many are in focus.
        losses: of the training.
        ballots: know the task.
        counted: whether Trainer has counted the items of the batch.

    Attributes:
        first: what the first pass returned; None before it.
    """

    def __init__(
        self,
        forward: Callable[[], Any],
        labels: Tensor,
        soft: Soft | None,
        members: int,
        losses: Losses,
        ballots: Ballots,
        counted: bool,
    ) -> None:
        self.forward, self.labels, self.soft, self.members = forward, labels, soft, members
        self.losses, self.ballots, self.counted = losses, ballots, counted
        self.first: Any = None

    def __call__(self) -> Any:
        outputs = self.forward()
        self.first = outputs if self.first is None else self.first
        return outputs

    def loss(self, outputs: Any) -> Tensor:
        """The mean loss of each member `(M,)`."""
        task = partial(self.ballots.task.find, self.labels, outputs)
        return self.losses.of_members(outputs, self.labels, self.members, task, self.counted, self.soft)

    def difference(self, first: Any, other: Any) -> Tensor:
        """How far apart two outputs are, the mean of each member `(M,)`."""
        one, two = first_output(first), first_output(other)
        weight = None if self.losses.weight is None else self.losses.weight.to(one)
        task = self.ballots.task.find(self.labels, one)
        return task.difference(one, two, self.labels, self.members, weight, **given(self.soft))

    def logits(self, outputs: Any) -> Tensor:
        """The logits, folded."""
        return first_output(outputs)

    def contrast(self, features: Tensor, temperature: float) -> Tensor:
        """The supervised contrastive loss of each member `(M,)`."""
        weight = None if self.losses.weight is None else self.losses.weight.to(features)
        task = self.ballots.task.find(self.labels)
        return task.contrast(features, self.labels, self.members, temperature, weight, **given(self.soft))


class Steps:
    """The passes of all members on a batch, or on a part of one.

    Args:
        ballots: which members there are, how they are computed, and their labels.
        columns: prepare a batch.
        loading: divides the rows of a pack.
        parts: of the batch of a step.
    """

    def __init__(self, ballots: Ballots, columns: Columns, loading: Loading, parts: Parts) -> None:
        self.ballots, self.columns, self.loading, self.parts = ballots, columns, loading, parts
        self.phases, self.losses, self.alone = ballots.phases, ballots.losses, ballots.alone

    def rows(self, inputs: Any) -> tuple[dict[str, Any], Tensor | None]:
        """The rows of a batch that the step under way trains on; T that each run's, or lane's, would have alone."""
        inputs, lanes = self.columns.prepared(inputs), lanes_of(self.phases.schedule)
        lengths = inputs.pop(LENGTHS, None)
        if lanes > 1:
            of_each = self.phases.population.members if self.phases.own_orders(self.phases.step) else 1
            inputs, lengths = self.loading.choose(inputs, lengths, self.phases.runs, lanes, of_each)
        return inputs, lengths

    def count(self, batch: Any) -> Tensor:
        """How much a part of a batch counts, for each group of rows."""
        inputs, lengths = self.rows(batch)
        groups = [self.loading.rows_of(inputs, lengths, at) for at in range(1 if lengths is None else len(lengths))]
        labels = [self.ballots.labels_of(dict(rows)) for rows in groups]
        soft = [self.ballots.soft_of(dict(rows)) for rows in groups]
        tasks = [partial(self.ballots.task.find, own) for own in labels]
        return torch.stack([self.losses.counts(*each) for each in zip(groups, labels, tasks, soft, strict=True)])

    @fast_products()
    def train(self, step: Callable[..., Tensor], model: nn.Module, inputs: Any, items: Any) -> Tensor:
        """Forward and backward of all members, chunk by chunk; returns what is added to the mean of their losses.

        Args:
            step: `Trainer.training_step`, of one model or of the members in focus.
            model: as Trainer passes it.
            inputs: a part of the batch of the step.
            items: `num_items_in_batch`, as Trainer counts it.
        """
        module, alive = self.phases.population.module, self.phases.alive
        of_all, lengths = self.rows(inputs)
        if self.losses.unseen_soft:
            self._check(of_all)
        module.train()
        with self.parts.under_way(inputs, self.count):
            if self.losses.alone:
                total = self.alone.train(step, of_all, lengths, self.phases.step)
            else:
                total = torch.zeros((), device=self.losses.trainer.args.device)
                for chunk in module.chunks:
                    module.focus(chunk)
                    rows = module.fold(of_all, groups=1 if lengths is None else len(lengths))
                    if lengths is not None:
                        rows["lengths"], rows["padding_side"] = lengths.tolist(), self.loading.padding_side
                    total = total + step(model, rows, items)
                if len(module.chunks) > 1 and module.mostly_frozen and total.device.type == "cpu":
                    heap.trim()  # members are computed in passes to save memory
        return total / max(alive, 1)

    def _check(self, rows: dict[str, Any]) -> None:
        """Raise SettingError for soft targets or weights of a batch that are none."""
        soft, labels = self.ballots.soft_of(dict(rows)), self.ballots.labels_of(dict(rows))
        if soft is not None and labels is not None:
            check_batch(soft, labels, self.ballots.task.known(labels))

    def loss(self, model: nn.Module, inputs: dict[str, Any], counted: bool) -> tuple[Tensor, Any]:
        """The sum of the mean losses of the members in focus, on a part of a batch; and what the model returns.

        Args:
            model: the population's module, as Trainer has prepared it.
            inputs: folded, with labels.
            counted: whether Trainer has counted the items of the batch.

        Raises:
            SettingError: no labels.
        """
        soft, labels = self.ballots.soft_of(inputs), self.ballots.labels_of(inputs)
        if labels is None:
            names = ", ".join(self.ballots.label_names)
            raise SettingError(f"training needs labels: the batch has none of {names}")
        population = self.phases.population
        focus = population.module.in_focus
        inputs = self.ballots.asking(inputs, labels)
        passes = MemberPasses(partial(model, **inputs), labels, soft, len(focus), self.losses, self.ballots, counted)
        losses = self.phases.strategy.losses(population, passes)
        return self.phases.total(self.parts.shared(losses, focus, population.size), self.phases.step), passes.first
