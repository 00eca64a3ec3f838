"""The loss of each member: what a single model would compute on its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from deni.tasks import Task


def losses_by(loss: Callable[..., Tensor], outputs: Any, labels: Tensor, members: int) -> Tensor:
    """The loss of each member, by a function of the outputs and labels of one model.

    Args:
        loss: called with the outputs and labels of each member.
        outputs: folded, of a model of transformers, or a tuple that begins with the logits.
        labels: folded, see `deni.tasks.Task.member_losses`.
        members: M.

    Returns:
        `(M,)`.
    """
    logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
    rows = len(logits) // members
    losses = []
    for at in range(0, len(logits), rows):
        part: Any = {"logits": logits[at : at + rows]}
        if isinstance(outputs, Mapping):
            every = {key: value for key, value in outputs.items() if isinstance(value, Tensor)}
            rows_of_member = {key: value[at : at + rows] for key, value in every.items() if len(value) == len(logits)}
            part = type(outputs)(**rows_of_member)
        losses.append(loss(part, labels[at : at + rows]))
    return torch.stack(losses)


@dataclass(frozen=True)
class MemberLoss:
    """The mean loss of each member: by the user's function, by label smoothing, or by the task.

    Args:
        own: the user's function, as Trainer takes it for `compute_loss_func`.
        smoother: Trainer's label smoother.
        weight: of each class, `(C,)`, for the task's.
    """

    own: Callable[..., Tensor] | None = None
    smoother: Callable[..., Tensor] | None = None
    weight: Tensor | None = None

    def __call__(
        self, outputs: Any, labels: Tensor, members: int, task: Callable[[], Task], items: Any = None
    ) -> Tensor:
        """The losses `(M,)`.

        Args:
            outputs, labels, members: see `losses_by`.
            task: gives the task, where that decides.
            items: of one member in the whole batch, for the user's function; None where they are not counted.
        """
        if self.own is not None:
            return losses_by(partial(self.own, num_items_in_batch=items), outputs, labels, members)
        if self.smoother is not None:
            return losses_by(self.smoother, outputs, labels, members)
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        weight = None if self.weight is None else self.weight.to(logits)
        return task().member_losses(logits, labels, members, weight)
