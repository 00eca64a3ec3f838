"""Uncertainty of the members, and the error rate when only the most confident texts are answered."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, as_log_probabilities, as_numbers


class RiskCoverage(NamedTuple):
    """A risk-coverage curve: `risk`, the error rate among the surest `coverage` of the examples; each `(N,)`."""

    coverage: Floats
    risk: Floats


def _members(log_probabilities: ArrayLike) -> Floats:
    return np.exp(as_log_probabilities("log_probabilities", log_probabilities, "N M C"))


def predictive_entropy(log_probabilities: ArrayLike) -> Floats:
    """Entropy of the members' mean probabilities: all uncertainty about the class.

    Args:
        log_probabilities: of the members, `(N, M, C)`.

    Returns:
        `(N,)` in nats, from 0 to log C.

    >>> predictive_entropy(np.log([[[0.5, 0.5], [0.5, 0.5]]])).round(3)
    array([0.693])
    """
    return scipy.special.entr(_members(log_probabilities).mean(1)).sum(-1)


def mutual_information(log_probabilities: ArrayLike) -> Floats:
    """Entropy of the mean minus mean entropy: the uncertainty that comes from the members' disagreement.

    Known as BALD (Houlsby et al. 2011) and as the epistemic part of the uncertainty; the rest stays with equal members.

    Args:
        log_probabilities: of the members, `(N, M, C)`.

    Returns:
        `(N,)` in nats, from 0 to log of the smaller of M and C.

    >>> mutual_information(np.log([[[0.5, 0.5], [0.5, 0.5]], [[0.99, 0.01], [0.01, 0.99]]])).round(3)
    array([0.   , 0.637])
    """
    probabilities = _members(log_probabilities)
    mean = scipy.special.entr(probabilities.mean(1)).sum(-1)
    return np.maximum(mean - scipy.special.entr(probabilities).sum(-1).mean(1), 0)


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> RiskCoverage:
    """Answer the surest examples first: error rate against the share that is answered (Geifman & El-Yaniv 2017).

    Among examples of equal confidence any order is as good: the curve is the mean over those orders.

    Args:
        confidence: `(N,)`; of an uncertainty, its negative.
        right: whether the answer is right, `(N,)`: booleans.

    >>> risk_coverage([0.9, 0.8, 0.6, 0.6], [True, False, True, True]).risk.round(3)
    array([0.   , 0.5  , 0.333, 0.25 ])
    """
    sure, hits = as_numbers("confidence", confidence, "N"), np.asarray(right)
    if hits.shape != sure.shape or hits.dtype != bool:
        raise InputError(
            f"right must be booleans, one for each of {sure.shape} confidences, not {hits.dtype} of {hits.shape}"
        )
    _, group = np.unique(-sure, return_inverse=True)  # group 0 is the surest
    size = np.bincount(group)
    errors = (np.bincount(group, weights=~hits) / size).repeat(size)  # in each place, the expected error
    answered = np.arange(1, len(sure) + 1)
    return RiskCoverage(answered / len(sure), errors.cumsum() / answered)
