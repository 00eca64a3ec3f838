"""The loss of each member: what a model would compute by itself on its own rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from deni.tasks import find_task, task_of


def problem_type(config: PretrainedConfig, labels: Tensor) -> str:
    """`regression`, `single_label_classification` or `multi_label_classification`, decided as transformers does."""
    return str(task_of(SimpleNamespace(config=config), labels).problem_type)


def member_losses(logits: Tensor, labels: Tensor, members: int, task: str, weight: Tensor | None = None) -> Tensor:
    """The mean loss of each member, `(M,)`; see `deni.tasks.Task.member_losses`."""
    return find_task(task).member_losses(logits, labels, members, weight)


def losses_by(loss: Callable[..., Tensor], outputs: Any, labels: Tensor, members: int) -> Tensor:
    """The loss of each member, by a function of the outputs and labels of one model.

    Args:
        loss: called with the outputs and labels of each member.
        outputs: folded, of a model of transformers, or a tuple that begins with the logits.
        labels: folded, see `member_losses`.
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
            own = {key: value[at : at + rows] for key, value in every.items() if len(value) == len(logits)}
            part = type(outputs)(**own)
        losses.append(loss(part, labels[at : at + rows]))
    return torch.stack(losses)
