"""How much the predictions of the seeds differ, even where their scores agree (Du & Nguyen 2023).

"Measuring the Instability of Fine-Tuning", ACL 2023: the SD of the scores misses runs that are right equally often, but
on other texts.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, Ints, as_classes, as_log_probabilities, check_least


def _votes(predictions: ArrayLike) -> Ints:
    """How many seeds choose each class, `(N, C)`."""
    chosen = as_classes("predictions", predictions, "S N")
    if len(chosen) < 2:
        raise InputError(f"predictions (S, N) need at least 2 seeds to differ, not shape {chosen.shape}")
    classes, examples = int(chosen.max()) + 1, chosen.shape[1]
    return np.bincount((chosen + classes * np.arange(examples)).ravel(), minlength=classes * examples).reshape(
        -1, classes
    )


def _agreement(votes: Ints) -> float:
    """Share of pairs of seeds that choose one class, mean over the examples."""
    seeds = int(votes[0].sum())
    return float((votes * (votes - 1)).sum(1).mean() / (seeds * (seeds - 1)))


def pairwise_disagreement(predictions: ArrayLike) -> float:
    """Share of examples on which two seeds choose different classes, mean over all pairs of seeds.

    Args:
        predictions: class numbers, `(S, N)`, at least 2 seeds.

    Returns:
        From 0 to 1.

    >>> pairwise_disagreement([[0, 1, 1, 2], [0, 1, 2, 2], [0, 1, 1, 2]]).__round__(3)
    0.167
    """
    return 1 - _agreement(_votes(predictions))


def fleiss_kappa(predictions: ArrayLike) -> float:
    """Agreement of the seeds beyond chance, for any number of classes (Fleiss 1971).

    (A - E) / (1 - E), where A is the share of pairs of seeds that agree and E the share that would by chance, with the
    classes as frequent as they are.

    Args:
        predictions: class numbers, `(S, N)`, at least 2 seeds.

    Returns:
        1 where all agree, about 0 by chance, at least -1 / (S - 1); NaN where every seed chooses one class everywhere.

    >>> round(fleiss_kappa([[0, 1, 1, 2], [0, 1, 2, 2], [0, 1, 1, 2]]), 3)
    0.745
    """
    votes = _votes(predictions)
    chance = float(((votes.sum(0) / votes.sum()) ** 2).sum())
    return (_agreement(votes) - chance) / (1 - chance) if (votes.sum(0) > 0).sum() > 1 else float("nan")


def jensen_shannon(log_probabilities: ArrayLike) -> float:
    """Jensen-Shannon divergence of two seeds' class probabilities, mean over examples and pairs of seeds.

    Entropy of the two's mean minus the mean of their entropies (Lin 1991).

    Args:
        log_probabilities: `(S, N, C)`, at least 2 seeds.

    Returns:
        In nats: from 0 to log 2 = 0.693.

    >>> certain = np.log([[[1 - 1e-12, 1e-12]], [[1e-12, 1 - 1e-12]]])
    >>> round(jensen_shannon(certain), 4)
    0.6931
    """
    probabilities = np.exp(as_log_probabilities("log_probabilities", log_probabilities, "S N C"))
    seeds = len(probabilities)
    check_least("the number of seeds (axis 0 of log_probabilities)", seeds, 2)
    entropies = _entropy(probabilities)  # (S, N)
    total = sum(
        (
            _entropy((probabilities[each] + probabilities[each + 1 :]) / 2)
            - (entropies[each] + entropies[each + 1 :]) / 2
        )
        .mean(1)
        .sum()
        for each in range(seeds - 1)
    )
    return max(0.0, float(total) / (seeds * (seeds - 1) / 2))


def _entropy(probabilities: Floats) -> Floats:
    return scipy.special.entr(probabilities).sum(-1)
