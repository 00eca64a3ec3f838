"""Conformal prediction: sets of classes and intervals of numbers that hold the truth with a stated probability.

A nonconformity score says how ill a class, or a number, fits a text. Its p-value is the share of calibration texts, the
new one counted among them, whose true label fits as ill or worse; a set holds what has a p-value above alpha. Several
models, each calibrated on the texts that it was not trained on, give the mean of their p-values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, as_log_probabilities, as_numbers, check_share

_ROUNDING = 1e-9  # 1 - 0.9 is below 0.1; a p-value is a fraction, and is not above alpha where it equals it
_PART = 1000  # texts that are looked at together


def probability_scores(log_probabilities: ArrayLike) -> Floats:
    """Nonconformity of each class: 1 minus its probability (LAC, Sadinle et al. 2019), `(..., N, C)`.

    >>> probability_scores(np.log([[0.2, 0.5, 0.3]])).round(3)
    array([[0.8, 0.5, 0.7]])
    """
    return -np.expm1(np.minimum(as_log_probabilities("log_probabilities", log_probabilities), 0))


def p_values(calibration: ArrayLike, scores: ArrayLike) -> Floats:
    """The share of the calibration texts, with the new one among them, that fit as ill as it or worse.

    Args:
        calibration: scores of the true labels of calibration texts, `(n,)`.
        scores: of new texts, of any shape.

    Returns:
        of the shape of `scores`, from 1 / (n + 1) to 1.

    >>> p_values([0.1, 0.2, 0.3], [0.0, 0.2, 0.9])
    array([1.  , 0.75, 0.25])
    """
    known = np.sort(as_numbers("calibration", calibration, "n"))
    new = as_numbers("scores", scores, "...")
    return (1 + len(known) - np.searchsorted(known, new, "left")) / (len(known) + 1)


def mean_p_values(calibrations: Sequence[ArrayLike], scores: ArrayLike) -> Floats:
    """The mean of the p-values of K models, each calibrated on other texts (cross-conformal prediction, Vovk 2015).

    Each p-value is at most alpha with a probability of at most alpha; their mean with one of at most 2 alpha, however
    they depend on each other (Vovk and Wang 2020).

    Args:
        calibrations: K arrays, of the texts that a model was not trained on: scores of their true labels.
        scores: of new texts by the K models, `(K, ...)`.

    >>> mean_p_values([[0.1, 0.2, 0.3], [0.2]], [[0.2, 0.9], [0.1, 0.3]])
    array([0.875, 0.375])
    """
    new = as_numbers("scores", scores, "K ...")
    if len(calibrations) != len(new):
        raise InputError(f"there are calibration scores of {len(calibrations)} models, and new ones of {len(new)}")
    return np.mean([p_values(known, own) for known, own in zip(calibrations, new, strict=True)], 0)


def prediction_sets(values: ArrayLike, level: float) -> np.ndarray:
    """Which classes have a p-value above 1 - level, `(N, C)` booleans; the class with the largest is always there.

    >>> prediction_sets([[0.5, 0.11, 0.1], [0.01, 0.02, 0.03]], 0.9)
    array([[ True,  True, False],
           [False, False,  True]])
    """
    check_share("level", level)
    each = as_numbers("values", values, "N C")
    chosen = each > 1 - level + _ROUNDING
    chosen[np.arange(len(each)), each.argmax(-1)] = True
    return chosen


def intervals(residuals: Sequence[ArrayLike], predictions: ArrayLike, level: float) -> tuple[Floats, Floats]:
    """The lowest and the highest number whose mean p-value is above 1 - level, each `(N,)`.

    With one model that is its prediction, plus and minus the ceil((n + 1) level)-th smallest residual.

    Args:
        residuals: K arrays, of the texts that a model was not trained on: how far off it is, without a sign.
        predictions: for new texts by the K models, `(K, N)`.

    >>> intervals([[0.3, 0.1, 0.2, 0.5]], [[10.0, 20.0]], 0.8)
    (array([ 9.5, 19.5]), array([10.5, 20.5]))
    """
    check_share("level", level)
    new = as_numbers("predictions", predictions, "K N")
    off = [np.sort(as_numbers("residuals", each, "n")) for each in residuals]
    if len(off) != len(new):
        raise InputError(f"there are residuals of {len(off)} models, and predictions of {len(new)}")
    if too_few(list(map(len, off)), level):
        needed, given = texts_needed(level, len(off)), sum(map(len, off))
        raise InputError(f"an interval at {level:g} needs residuals of at least {needed} texts, not {given}")
    parts = [_ends(off, part, 1 - level) for part in np.array_split(new, -(-new.shape[1] // _PART), axis=1)]
    low, high = map(np.concatenate, zip(*parts, strict=True))
    return low, high


def _ends(off: list[Floats], new: Floats, alpha: float) -> tuple[Floats, Floats]:
    ends = []
    for sign in (-1, 1):
        # Above all predictions each p-value falls in steps, one at each prediction plus residual.
        steps = np.concatenate([each + sign * own[:, None] for each, own in zip(new, off, strict=True)])  # (n, N)
        distances = [np.abs(steps - each) - 4 * np.spacing(np.abs(steps) + np.abs(each)) for each in new]
        values = mean_p_values(off, distances)
        # Where models contradict each other all may be below alpha: then the number with the largest p-value.
        inside = values >= np.minimum(values.max(0), alpha + _ROUNDING)
        ends.append(sign * np.where(inside, sign * steps, -np.inf).max(0))
    return ends[0], ends[1]


def least_p_value(sizes: Sequence[int]) -> float:
    """The least that the mean p-value of K models can be, calibrated on so many texts each.

    >>> least_p_value([9, 9]), least_p_value([19])
    (0.1, 0.05)
    """
    return float(np.mean([1 / (size + 1) for size in sizes]))


def too_few(sizes: Sequence[int], level: float) -> bool:
    """Whether no set can leave out a class, and no interval ends, at this level.

    >>> too_few([9], 0.9), too_few([8], 0.9), too_few([10, 8], 0.9)
    (False, True, True)
    """
    return least_p_value(sizes) > 1 - level + _ROUNDING


def texts_needed(level: float, models: int = 1) -> int:
    """The fewest calibration texts with which a set can leave out a class at this level.

    With n texts a p-value is at least 1 / (n + 1), which must not be above 1 - level: that is where
    ceil((n + 1) level) is at most n.

    Args:
        models: those that share the texts, each calibrated on as many.

    >>> texts_needed(0.9), texts_needed(0.95), texts_needed(0.9, models=5)
    (9, 19, 45)
    """
    check_share("level", level)
    return models * int(np.ceil(1 / (1 - level) - 1 - _ROUNDING))
