"""The mean loss of each member: what a single model would compute on its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deni.errors import SettingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def mean_by_member(losses: Tensor, members: int) -> Tensor:
    """`(M*B, ...)`, folded, as the mean of each member, `(M,)`."""
    return losses.unflatten(0, (members, -1)).flatten(1).mean(1)


def squared_error(logits: Tensor, labels: Tensor, members: int) -> Tensor:
    """Of numbers, as `torch.nn.functional.mse_loss`."""
    import torch
    from torch.nn.functional import mse_loss

    dtype = torch.promote_types(logits.dtype, torch.float32)
    losses = mse_loss(logits.to(dtype).view(labels.shape), labels.to(dtype), reduction="none")
    return mean_by_member(losses, members)


def binary_cross_entropy(logits: Tensor, labels: Tensor, members: int) -> Tensor:
    """Of several labels, as `torch.nn.functional.binary_cross_entropy_with_logits`."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return mean_by_member(binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none"), members)


def cross_entropy(logits: Tensor, labels: Tensor, members: int, weight: Tensor | None = None) -> Tensor:
    """Of classes, as `torch.nn.functional.cross_entropy`, which leaves out labels of -100 and weighs the mean."""
    import torch
    from torch.nn import functional as F

    classes = logits.shape[-1]
    if logits.dim() == 3 and logits.shape[:2] != labels.shape:
        raise SettingError(
            f"logits {tuple(logits.shape)} do not fit labels {tuple(labels.shape)}: a label for each token is needed "
            "(prompt tuning puts out more tokens than it is given)"
        )
    losses = F.cross_entropy(logits.reshape(-1, classes), labels.reshape(-1), weight=weight, reduction="none")
    total = counted(labels.reshape(-1), weight, losses.dtype).view(members, -1).sum(1)
    # A batch without any label (texts of control characters, which have no tokens) has loss 0, not NaN.
    return losses.view(members, -1).sum(1) / torch.where(total > 0, total, 1)


def of_distributions(
    first: Tensor, other: Tensor, labels: Tensor, members: int, weight: Tensor | None = None
) -> Tensor:
    """The symmetric Kullback-Leibler divergence, (KL(p || q) + KL(q || p)) / 2, the mean of each member `(M,)`.

    What counts is what counts in `cross_entropy`.

    Args:
        first, other: log probabilities, folded `(M*B, ..., C)`.
        labels: `(M*B, ...)`.
    """
    import torch

    divergences = ((first.exp() - other.exp()) * (first - other)).sum(-1) / 2  # (M*B, ...)
    counts = counted(labels, weight, divergences.dtype).view(members, -1)
    total = counts.sum(1)
    return (divergences.view(members, -1) * counts).sum(1) / torch.where(total > 0, total, 1)


def of_log_odds(first: Tensor, other: Tensor, members: int) -> Tensor:
    """The same of two sides, by the log odds of one of them; the mean of all labels of each member, `(M,)`."""
    return mean_by_member((first.sigmoid() - other.sigmoid()) * (first - other) / 2, members)


def counted(labels: Tensor, weight: Tensor | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """How much each label counts in the mean: 0 for -100, else 1, or the weight of its class."""
    import torch

    counts = (labels != -100).to(dtype or (torch.float32 if weight is None else weight.dtype))
    return counts if weight is None else counts * weight.to(counts.dtype)[labels.clamp(min=0)]
