"""Strategies ranked over many datasets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, as_numbers, check_share

LEAST_DATASETS = 15


class CriticalDifference(NamedTuple):
    """Mean ranks `(K,)` (1 is best), Friedman's p-value, and by how much two mean ranks must differ (Nemenyi)."""

    ranks: Floats
    p_value: float
    difference: float


def critical_difference(scores: ArrayLike, *, alpha: float = 0.05, lower_is_better: bool = False) -> CriticalDifference:
    """Friedman's test and Nemenyi's critical difference (Demšar 2006, "Statistical Comparisons of Classifiers").

    Two strategies differ where Friedman's p-value is below alpha and their mean ranks are further apart than the
    difference.

    Args:
        scores: one mean over seeds for each dataset and strategy, `(D, K)`, at least 15 datasets and 3 strategies.

    Raises:
        InputError: with fewer than 15 datasets, over which ranks say little: show the differences dataset by dataset.

    >>> scores = np.tile([0.9, 0.8, 0.7], (15, 1))
    >>> found = critical_difference(scores)
    >>> found.ranks, round(found.difference, 3)
    (array([1., 2., 3.]), 0.856)
    """
    check_share("alpha", alpha)
    table = as_numbers("scores", scores, "D K")
    datasets, strategies = table.shape
    if datasets < LEAST_DATASETS:
        raise InputError(
            f"a critical difference needs at least {LEAST_DATASETS} datasets, not {datasets} (scores are (D, K)):"
            " show the paired differences of each dataset instead"
        )
    if strategies < 3:
        raise InputError(f"ranks need at least 3 strategies, not {strategies}: compare two of them directly")
    ranks = scipy.stats.rankdata(table if lower_is_better else -table, axis=1)
    tied = (ranks == ranks[:, :1]).all()  # Friedman's statistic is 0 / 0
    p_value = 1.0 if tied else float(scipy.stats.friedmanchisquare(*ranks.T).pvalue)
    quantile = scipy.stats.studentized_range.ppf(1 - alpha, strategies, np.inf) / np.sqrt(2)
    return CriticalDifference(
        ranks.mean(0), p_value, float(quantile * np.sqrt(strategies * (strategies + 1) / (6 * datasets)))
    )
