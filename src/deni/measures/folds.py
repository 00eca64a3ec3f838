"""Intervals from cross-validation, whose folds share their training texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import SettingError
from deni.measures.arrays import Estimate

# What the half width of `of_delivered` is multiplied with, chosen so that at least 93 % of the intervals cover the true
# score of the delivered model at 50, 200 and 500 labels, in simulation and on real texts: benchmarks/fold_coverage.py.
WIDENED = 1.05


def pseudo_values(score: Callable[[np.ndarray], np.ndarray], folds: ArrayLike) -> tuple[float, np.ndarray]:
    """The score of pooled out-of-fold predictions, and what each fold adds to it.

    A score such as F1 of a single fold, in which classes are missing, is biased; that of all folds together is not. The
    jackknife's pseudo-values K * score - (K - 1) * (score without fold k) vary as the scores of folds do; for a score
    that is a mean over texts they are those scores, where folds have equal sizes.

    Args:
        score: of the predictions, as a function of how often each text counts: `(R, N)` to `(R,)`.
        folds: of each text, `(N,)`, from 0 to K - 1.

    Returns:
        the score, and `(K,)`.

    >>> right = np.array([1.0, 0.0, 1.0, 1.0])
    >>> value, each = pseudo_values(lambda weights: weights @ right / weights.sum(1), [0, 0, 1, 1])
    >>> value, each.tolist()
    (0.75, [0.5, 1.0])
    """
    of = np.asarray(folds)
    count = int(of.max()) + 1
    weights = np.stack([np.ones(len(of)), *(np.where(of == fold, 0.0, 1.0) for fold in range(count))])
    whole, *without = np.asarray(score(weights), dtype=float)
    return float(whole), count * whole - (count - 1) * np.asarray(without)


def of_delivered(
    values: ArrayLike, test_share: float, widened: float = WIDENED, confidence: float = 0.95
) -> tuple[float, float]:
    """The ends of an interval for the score of the model that is trained on all texts.

    As `over_folds`, with the folds of all divisions as its values (Bouckaert and Frank 2004), and wider: the score of
    one model is another thing than the mean over models that were trained on fewer texts.

    Args:
        values: what each fold of each division adds to the score, `(S, K)`, see `pseudo_values`.
        test_share: texts of a fold that are left out, as a part of those that are fitted.
        widened: what the half width is multiplied with.

    >>> low, high = of_delivered([[0.1, 0.2, 0.3]], test_share=0.5, widened=2.0)
    >>> round(low, 3), round(high, 3)
    (-0.587, 0.987)
    """
    value, low, high = over_folds(np.asarray(values, dtype=float).reshape(-1), test_share, confidence)
    return float(value - widened * (value - low)), float(value + widened * (high - value))


def over_folds(differences: ArrayLike, test_share: float, confidence: float = 0.95) -> Estimate:
    """The mean difference over folds with an interval that knows that the folds share their training texts.

    The corrected t-test of Nadeau and Bengio (2003): the variance of the mean of K folds is (1/K + test/training) times
    that of a fold, K - 1 degrees of freedom. Without the second term it would be far too small.

    Args:
        differences: one a fold, `(K,)`; paired: both models have the same folds.
        test_share: texts of a fold that are left out, as a part of those that are fitted.

    >>> value, low, high = over_folds([0.1, 0.2, 0.3], test_share=0.5)
    >>> round(float(value), 3), round(float(low), 3), round(float(high), 3)
    (0.2, -0.193, 0.593)
    """
    each = np.asarray(differences, dtype=float)
    if each.ndim != 1 or len(each) < 2:
        raise SettingError(f"an interval over folds needs two or more of them, not {each.shape}")
    mean, variance = each.mean(), each.var(ddof=1)
    half = scipy.stats.t.ppf((1 + confidence) / 2, len(each) - 1) * np.sqrt((1 / len(each) + test_share) * variance)
    return Estimate(mean, mean - half, mean + half)
