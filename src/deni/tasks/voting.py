"""How members vote on classes, on labels, and on numbers."""

# Votes are computed by torch, not by NumPy: they run on the trainer's device in each evaluation, and predictions of
# saved models and archived studies keep their bits.

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

from deni.errors import SettingError
from deni.tasks.base import DEFAULT, find_task

if TYPE_CHECKING:
    from torch import Tensor

Combine = Literal["soft", "hard", "parent"]
COMBINES = get_args(Combine)


def vote(outputs: Tensor, combine: Combine = "soft", task: str = DEFAULT) -> Tensor:
    """Let members vote.

    Args:
        outputs: as `deni.tasks.Task.outputs` gives them, `(B, M, C)`, or `(B, M, T, C)` of words, each of which is
            voted on.
        combine: `soft`: the mean of the probabilities, or of the numbers; `hard`: the share of the members that choose
            a class or a label (a tie goes to the lowest class, and leaves a label out), or the median of the numbers;
            `parent`: the first member alone (what the released research code does).
        task: what a text has, one of `deni.tasks.TASKS`.

    Returns:
        `(B, C)`, or `(B, T, C)`. Classes: log probabilities; their largest entry is the choice, and a class without
        a vote has -inf in a hard vote. Several labels: log odds; those above 0 are chosen, and a label on which all
        agree has inf or -inf in a hard vote. Regression: numbers.

    >>> import torch
    >>> two_to_one = torch.tensor([[[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]]])
    >>> vote(two_to_one.log()).exp().argmax(-1), vote(two_to_one.log(), "hard").argmax(-1)
    (tensor([1]), tensor([0]))
    >>> vote(two_to_one.logit(), task="multi_label").sigmoid().round(decimals=3)
    tensor([[0.4330, 0.5670]])
    >>> vote(two_to_one, "hard", "regression")
    tensor([[0.6000, 0.4000]])
    """
    if combine not in COMBINES:
        raise SettingError(f"unknown vote {combine!r}: choose soft, hard or parent")
    return outputs[:, 0] if combine == "parent" else find_task(task).vote(outputs, combine)


def on_classes(outputs: Tensor, combine: Combine) -> Tensor:
    """Log probabilities: of the mean probability, or of the share of the members."""
    from torch.nn.functional import one_hot

    if combine == "hard":
        return one_hot(outputs.argmax(-1), outputs.shape[-1]).to(outputs.dtype).mean(1).log()
    return outputs.logsumexp(1) - math.log(outputs.shape[1])


def on_labels(outputs: Tensor, combine: Combine) -> Tensor:
    """Log odds of each label."""
    from torch.nn.functional import logsigmoid

    if combine == "hard":
        return (outputs > 0).to(outputs.dtype).mean(1).logit()
    # The log odds of the mean probability; the number of members cancels.
    return logsigmoid(outputs).logsumexp(1) - logsigmoid(-outputs).logsumexp(1)


def on_numbers(outputs: Tensor, combine: Combine) -> Tensor:
    """The mean, or the median; where two are in the middle, the mean of these (`torch.median` takes the lower)."""
    if combine == "soft":
        return outputs.mean(1)
    ordered, members = outputs.sort(1).values, outputs.shape[1]
    return (ordered[:, (members - 1) // 2] + ordered[:, members // 2]) / 2


def at_least_float32(logits: Tensor) -> Tensor:
    """Logits in float64 if they are, else in float32."""
    import torch

    return logits if logits.dtype == torch.float64 else logits.float()
