"""The mean loss of each member: what a single model would compute on its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deni.errors import SettingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Soft:
    """Soft targets, and how much each row counts.

    Args:
        targets: folded, `(M*B, C)`, or `(M*B, T, C)` of words: probabilities, or numbers; None: the labels.
        weights: of each row in the mean, `(M*B,)`, at least 0; None: all rows count alike.
    """

    targets: Tensor | None = None
    weights: Tensor | None = None

    def fitting(self, logits: Tensor) -> Tensor | None:
        """The targets in the type of the loss; raises SettingError where their shape is not that of the logits."""
        if self.targets is None:
            return None
        if len(self.targets) != len(logits) or self.targets.numel() != logits.numel():
            raise SettingError(
                f"soft_labels {tuple(self.targets.shape)} do not fit logits {tuple(logits.shape)}: a row needs one "
                "target for each output of the model"
            )
        return self.targets.to(_in_float32(logits).dtype).view(logits.shape)

    def rows(self, values: Tensor) -> Tensor | float:
        """How much each row counts, to be multiplied with values `(M*B, ...)`."""
        if self.weights is None:
            return 1.0
        return self.weights.to(values.dtype).view(-1, *[1] * (values.dim() - 1))


def mean_by_member(losses: Tensor, members: int, soft: Soft | None = None) -> Tensor:
    """`(M*B, ...)`, folded, as the mean of each member, `(M,)`: of its rows, as much as each counts."""
    if soft is None or soft.weights is None:
        return losses.unflatten(0, (members, -1)).flatten(1).mean(1)
    rows = losses.flatten(1).mean(1) if losses.dim() > 1 else losses
    return ratio_of(rows * soft.rows(rows), soft.weights.to(rows.dtype), members)


def ratio_of(losses: Tensor, counts: Tensor, members: int) -> Tensor:
    """The sum of losses over that of how much each counts, both folded, of each member `(M,)`; 0 where none counts."""
    import torch

    total = counts.reshape(members, -1).sum(1)
    # A batch without any label (texts of control characters, which have no tokens) has loss 0, not NaN.
    return losses.reshape(members, -1).sum(1) / torch.where(total > 0, total, 1)


def squared_error(logits: Tensor, labels: Tensor, members: int, soft: Soft | None = None) -> Tensor:
    """Of numbers, as `torch.nn.functional.mse_loss`."""
    from torch.nn.functional import mse_loss

    if soft is not None and (targets := soft.fitting(logits)) is not None:
        labels = targets
    logits = _in_float32(logits).view(labels.shape)
    losses = mse_loss(logits, labels.to(logits.dtype), reduction="none")
    return mean_by_member(losses, members, soft)


def binary_cross_entropy(logits: Tensor, labels: Tensor, members: int, soft: Soft | None = None) -> Tensor:
    """Of several labels, as `torch.nn.functional.binary_cross_entropy_with_logits`."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    if soft is not None and (targets := soft.fitting(logits)) is not None:
        logits, labels = _in_float32(logits), targets
    losses = binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return mean_by_member(losses, members, soft)


def cross_entropy(
    logits: Tensor, labels: Tensor, members: int, weight: Tensor | None = None, soft: Soft | None = None
) -> Tensor:
    """Of classes, as `torch.nn.functional.cross_entropy`, which leaves out labels of -100 and weighs the mean.

    Class weights count by the probabilities of soft targets, in the mean, too.
    """
    import torch
    from torch.nn import functional as F

    classes = logits.shape[-1]
    if logits.dim() == 3 and logits.shape[:2] != labels.shape:
        raise SettingError(
            f"logits {tuple(logits.shape)} do not fit labels {tuple(labels.shape)}: a label for each token is needed "
            "(prompt tuning puts out more tokens than it is given)"
        )
    targets = None if soft is None else soft.fitting(logits)
    if targets is not None:
        there = counted(labels, soft=soft).unsqueeze(-1) > 0  # what does not count may be anything
        logits, right = _in_float32(logits), torch.where(there, targets, 0).view(-1, classes)
    else:
        right = labels.reshape(-1)
    weight = None if weight is None else weight.to(logits.dtype)
    losses = F.cross_entropy(logits.reshape(-1, classes), right, weight=weight, reduction="none")
    losses = losses.view(labels.shape)
    if soft is not None:
        losses = losses * soft.rows(losses)
    return ratio_of(losses, counted(labels, weight, losses.dtype, soft), members)


def of_distributions(
    first: Tensor,
    other: Tensor,
    labels: Tensor,
    members: int,
    weight: Tensor | None = None,
    soft: Soft | None = None,
) -> Tensor:
    """The symmetric Kullback-Leibler divergence, (KL(p || q) + KL(q || p)) / 2, the mean of each member `(M,)`.

    What counts is what counts in `cross_entropy`.

    Args:
        first, other: log probabilities, folded `(M*B, ..., C)`.
        labels: `(M*B, ...)`.
    """
    divergences = ((first.exp() - other.exp()) * (first - other)).sum(-1) / 2  # (M*B, ...)
    counts = counted(labels, weight, divergences.dtype, soft)
    return ratio_of(divergences * counts, counts, members)


def of_log_odds(first: Tensor, other: Tensor, members: int, soft: Soft | None = None) -> Tensor:
    """The same of two sides, by the log odds of one of them; the mean of all labels of each member, `(M,)`."""
    return mean_by_member((first.sigmoid() - other.sigmoid()) * (first - other) / 2, members, soft)


def counted_rows(labels: Tensor, soft: Soft | None = None) -> Tensor:
    """How much each row counts in the mean, `(B,)`."""
    if soft is None or soft.weights is None:
        return labels.new_ones(len(labels))
    return soft.weights


def supervised_contrast(
    features: Tensor,
    labels: Tensor,
    members: int,
    temperature: float,
    weight: Tensor | None = None,
    soft: Soft | None = None,
) -> Tensor:
    """The supervised contrastive loss over the rows of each member, `(M,)` (Khosla et al. 2020, arXiv 2004.11362).

    Of a row it is the mean, over the others of its class, of minus the log probability that a softmax over all others
    gives them, by the cosine similarity divided by a temperature: L_out of the paper, without augmented views. Soft
    targets weigh the others by the probability that both are of one class. A row that is alone in its class does not
    count; where all are, the loss is 0. Rows count in the mean as in `cross_entropy`.

    Args:
        features: folded, `(M*B, D)`.
        labels: classes, folded `(M*B,)`.
        temperature: above 0.

    >>> import torch
    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> supervised_contrast(features, torch.tensor([0, 0, 1]), members=1, temperature=1.0)
    tensor([0.3133])
    """
    import torch
    from torch.nn import functional as F

    vectors = F.normalize(_in_float32(features), dim=-1).unflatten(0, (members, -1))  # (M, B, D)
    with torch.autocast(vectors.device.type, enabled=False):
        similarities = vectors @ vectors.mT / temperature  # (M, B, B)
        if soft is not None and soft.targets is not None:
            targets = soft.targets.to(vectors.dtype).unflatten(0, (members, -1))  # (M, B, C)
            alike = targets @ targets.mT
        else:
            classes = labels.view(members, -1)
            alike = (classes.unsqueeze(2) == classes.unsqueeze(1)).to(vectors.dtype)  # (M, B, B)
    itself = torch.eye(alike.shape[1], dtype=torch.bool, device=alike.device)
    alike = alike.masked_fill(itself, 0)
    # Not -inf: the difference of two is NaN where a row has no others.
    logs = similarities.masked_fill(itself, torch.finfo(similarities.dtype).min).log_softmax(-1)
    others = alike.sum(-1).flatten()  # (M*B,)
    losses = -(logs.masked_fill(itself, 0) * alike).sum(-1).flatten() / torch.where(others > 0, others, 1)
    counts = torch.where(others > 0, counted(labels, weight, losses.dtype, soft), 0)
    return ratio_of(losses * counts, counts, members)


def counted(
    labels: Tensor, weight: Tensor | None = None, dtype: torch.dtype | None = None, soft: Soft | None = None
) -> Tensor:
    """How much each label counts in the mean: 0 for -100, else 1, or the weight of its class, times that of its row.

    The soft target of a text counts whatever its label is.
    """
    import torch

    targets = None if soft is None else soft.targets
    there = labels != -100
    if targets is not None and labels.dim() == 1:
        there = torch.ones_like(there)
    counts = there.to(dtype or (torch.float32 if weight is None else weight.dtype))
    if weight is not None and targets is not None:
        counts = torch.where(there, targets.to(counts.dtype) @ weight.to(counts.dtype), 0)
    elif weight is not None:
        counts = counts * weight.to(counts.dtype)[labels.clamp(min=0)]
    return counts if soft is None else counts * soft.rows(counts)


def _in_float32(logits: Tensor) -> Tensor:
    """Logits in float32, or better."""
    import torch

    return logits.to(torch.promote_types(logits.dtype, torch.float32))
