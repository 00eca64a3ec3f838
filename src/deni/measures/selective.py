"""Answering only where a target accuracy is supported: how many texts, above which confidence."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, Ints, as_numbers, check_share

COVERAGES = tuple(at / 20 for at in range(1, 21))  # the grid that is tested, from the smallest on
RISK = 0.05  # how often a supported accuracy may be wrong


class AccuracyCoverage(NamedTuple):
    """What is known at each coverage of the grid, `(G,)` each.

    Args:
        threshold: an answer is given where the confidence is above it; 0 where all are answered.
        answered: how many texts that are.
        errors: how many of these are wrong.
        coverage: the share answered.
        accuracy: the share of right answers.
        bound: the lower Clopper-Pearson bound of the accuracy, for one coverage alone.
    """

    threshold: Floats
    answered: Ints
    errors: Ints
    coverage: Floats
    accuracy: Floats
    bound: Floats


class Selection(NamedTuple):
    """Where to answer so that an accuracy is supported.

    Args:
        target: that accuracy.
        risk: the probability that the accuracy is below the target all the same, over the choice of the labeled texts.
        threshold: answer where the confidence is above it.
        coverage: the share of the labeled texts that would be answered, expected of others, too.
        answered, errors: how many of the labeled texts that are, and how many of the answers are wrong.
        texts: how many labeled texts there were.
    """

    target: float
    risk: float
    threshold: float
    coverage: float
    answered: int
    errors: int
    texts: int


def accuracy_bound(answered: ArrayLike, errors: ArrayLike, risk: float = RISK) -> Floats:
    """The lower end of the one-sided Clopper-Pearson interval of an accuracy.

    >>> accuracy_bound([58, 59, 92, 93], [0, 0, 1, 1]).round(4)
    array([0.9497, 0.9505, 0.9495, 0.95  ])
    """
    total, wrong = np.asarray(answered, dtype=float), np.asarray(errors, dtype=float)
    return np.where(wrong < total, scipy.stats.beta.ppf(risk, np.maximum(total - wrong, 1), wrong + 1), 0.0)


@cache
def answers_needed(accuracy: float, errors: int = 0, risk: float = RISK) -> int:
    """The smallest number of answers, with this many errors, that supports an accuracy.

    >>> [answers_needed(0.95, errors) for errors in (0, 1)], answers_needed(0.99)
    ([59, 93], 299)
    """
    check_share("accuracy", accuracy)
    check_share("risk", risk)
    low, high = errors, errors + 1  # the bound grows with the number of answers
    while accuracy_bound(high, errors, risk) < accuracy:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accuracy_bound(middle, errors, risk) >= accuracy else (middle, high)
    return high


def accuracy_coverage(confidence: ArrayLike, right: ArrayLike, risk: float = RISK) -> AccuracyCoverage:
    """Accuracy of the surest answers at each coverage of a fixed grid.

    The threshold of k answers is the confidence of the next text: given it, the k above are a plain sample of all texts
    above it. Texts of equal confidence are answered together or not at all, so that a step may have fewer than k.

    Args:
        confidence: `(N,)`, from 0 to 1.
        right: whether the answer is right, `(N,)`: booleans.

    >>> accuracy_coverage([0.9, 0.8, 0.7, 0.6], [True, True, False, True]).accuracy.round(2)
    array([1.  , 1.  , 0.67, 0.75])
    """
    sure, hits = _checked(confidence, right)
    order = np.argsort(-sure, kind="stable")
    ordered, wrong = sure[order], np.concatenate([[0], np.cumsum(~hits[order])])
    steps = [int(coverage * len(sure) + 1e-9) for coverage in COVERAGES]
    thresholds = [float(ordered[step]) if step < len(sure) else 0.0 for step in steps]
    answered = np.array([int((sure > threshold).sum()) for threshold in thresholds])
    answered, first = np.unique(answered, return_index=True)
    answered, first = answered[answered > 0], first[answered > 0]
    errors = wrong[answered]
    return AccuracyCoverage(
        np.array(thresholds)[first],
        answered,
        errors,
        answered / len(sure),
        1 - errors / answered,
        accuracy_bound(answered, errors, risk),
    )


def choose_threshold(confidence: ArrayLike, right: ArrayLike, accuracy: float, risk: float = RISK) -> Selection:
    """Find the largest coverage at which the labeled texts support an accuracy.

    Fixed-sequence testing: from the smallest coverage of the grid that could support it without an error on, each is
    tested at the full level, and the first that fails ends the search. So the probability that the accuracy of the
    answers is below the target is at most `risk`, although many coverages are looked at.

    Args:
        confidence: of labeled texts that the model has not learned, `(N,)`, from 0 to 1.
        right: whether the answer is right, `(N,)`: booleans.
        accuracy: the target, between 0 and 1.

    Raises:
        InputError: too few labels, or too many errors among the surest; says how many would do.

    >>> choose_threshold(np.linspace(0.5, 1, 200), np.arange(200) > 40, 0.95).coverage
    0.8
    """
    check_share("accuracy", accuracy)
    check_share("risk", risk)
    sure, hits = _checked(confidence, right)
    least = answers_needed(accuracy, 0, risk)
    if len(sure) < least:
        raise InputError(
            f"{_supported(accuracy, risk)}, and there are {len(sure)} labeled texts: label at least "
            f"{least - len(sure)} more, or ask for less"
        )
    curve = accuracy_coverage(sure, hits, risk)
    tested = np.flatnonzero(curve.answered >= least)
    if not len(tested):
        raise InputError(f"all {len(sure)} labeled texts have the same confidence, so none can be answered first")
    failed = tested[curve.bound[tested] < accuracy]
    last = (int(failed[0]) if len(failed) else len(curve.answered)) - 1
    if last < tested[0]:
        answered, errors = int(curve.answered[tested[0]]), int(curve.errors[tested[0]])
        raise InputError(
            f"{_supported(accuracy, risk)}, but the surest {answered} of {len(sure)} labeled texts have {errors} "
            f"error(s), with which it takes {answers_needed(accuracy, errors, risk)}: ask for less, label more, or "
            "look whether these labels are wrong"
        )
    return Selection(
        accuracy,
        risk,
        float(curve.threshold[last]),
        float(curve.coverage[last]),
        int(curve.answered[last]),
        int(curve.errors[last]),
        len(sure),
    )


def _supported(accuracy: float, risk: float) -> str:
    none, one = (answers_needed(accuracy, errors, risk) for errors in (0, 1))
    return f"an accuracy of {accuracy:g} takes {none} answers without an error, or {one} with one"


def _checked(confidence: ArrayLike, right: ArrayLike) -> tuple[Floats, np.ndarray]:
    sure, hits = as_numbers("confidence", confidence, "N"), np.asarray(right)
    if hits.shape != sure.shape or hits.dtype != bool:
        raise InputError(
            f"right must be booleans, one for each of {sure.shape} confidences, not {hits.dtype} of {hits.shape}"
        )
    if sure.min() < 0 or sure.max() > 1 + 1e-6:
        raise InputError(f"confidence must be from 0 to 1, not {sure.min():.4g} to {sure.max():.4g}")
    return sure, hits
