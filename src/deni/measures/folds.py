"""The difference of two models over the folds of one cross-validation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from deni.errors import SettingError
from deni.measures.arrays import Estimate


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
    half = stats.t.ppf((1 + confidence) / 2, len(each) - 1) * np.sqrt((1 / len(each) + test_share) * variance)
    return Estimate(mean, mean - half, mean + half)
