"""How members vote."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Combine = Literal["soft", "hard", "parent"]


def vote(log_probabilities: Tensor, combine: Combine = "soft") -> Tensor:
    """Let members vote.

    Args:
        log_probabilities: `(B, M, C)`.
        combine: `soft`: the mean of the probabilities; `hard`: the share of the members that choose a class, a tie
            goes to the lowest class; `parent`: the first member alone (what the released research code does).

    Returns:
        `(B, C)` log probabilities; their largest entry is the choice. A class without a vote has log probability
        -inf in a hard vote.

    >>> two_to_one = torch.tensor([[[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]]]).log()
    >>> vote(two_to_one).exp().argmax(-1), vote(two_to_one, "hard").argmax(-1)
    (tensor([1]), tensor([0]))
    """
    if combine == "soft":
        return log_probabilities.logsumexp(1) - math.log(log_probabilities.shape[1])
    if combine == "hard":
        classes = log_probabilities.shape[-1]
        choices = torch.nn.functional.one_hot(log_probabilities.argmax(-1), classes)  # (B, M, C)
        return choices.to(log_probabilities.dtype).mean(1).log()
    if combine == "parent":
        return log_probabilities[:, 0]
    raise ValueError(f"unknown vote {combine!r}: choose soft, hard or parent")
