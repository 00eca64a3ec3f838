"""The loss of each member: what a model would compute by itself on its own rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig


def problem_type(config: PretrainedConfig, labels: Tensor) -> str:
    """`regression`, `single_label_classification` or `multi_label_classification`, decided as transformers does."""
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    integer = not labels.is_floating_point()
    return "single_label_classification" if integer else "multi_label_classification"


def member_losses(logits: Tensor, labels: Tensor, members: int, problem: str, weight: Tensor | None = None) -> Tensor:
    """The mean loss of each member.

    Args:
        logits: folded, `(M*B, C)` or `(M*B, T, C)` for token classification.
        labels: folded, `(M*B,)`, `(M*B, T)` with -100 where there is none, or `(M*B, C)` for several labels or numbers.
        members: M.
        problem: as `problem_type` gives it, or any other for classes.
        weight: of each class, `(C,)`; the mean is weighted, as in `torch.nn.functional.cross_entropy`.

    Returns:
        `(M,)`.
    """
    if problem == "regression":
        dtype = torch.promote_types(logits.dtype, torch.float32)
        losses = F.mse_loss(logits.to(dtype).view(labels.shape), labels.to(dtype), reduction="none")
        return losses.unflatten(0, (members, -1)).flatten(1).mean(1)
    if problem == "multi_label_classification":
        losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
        return losses.unflatten(0, (members, -1)).flatten(1).mean(1)
    classes = logits.shape[-1]
    if logits.dim() == 3 and logits.shape[:2] != labels.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} do not fit labels {tuple(labels.shape)}: a label for each token is needed "
            "(prompt tuning puts out more tokens than it is given)"
        )
    losses = F.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), weight=weight, reduction="none")
    counted = (labels.reshape(-1) != -100).to(losses.dtype)
    if weight is not None:
        counted = counted * weight.to(losses.dtype)[labels.reshape(-1).clamp(min=0)]
    total = counted.view(members, -1).sum(1)
    # A batch without any label (texts of control characters, which have no tokens) has loss 0, not NaN.
    return losses.view(members, -1).sum(1) / torch.where(total > 0, total, 1)


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
