"""How much of the spread comes from one source of randomness, with the effects of the others mitigated.

The method of Pecher, Srba & Bielikova 2024, "On Sensitivity of Learning with Limited Labelled Data to the Effects of
Randomness: Impact of Interactions and Systematic Choices" (EMNLP 2024): all other sources are fixed in several
configurations, and within each the source is varied over several values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, as_scores
from deni.measures.spread import standard_deviation

_EQUAL = 1e-12  # of the scores: below this an SD is the rounding of equal scores


class Importance(NamedTuple):
    """SD that a source contributes, SD that is left with it mitigated, SD of all sources, and the importance score."""

    contributed: float
    mitigated: float
    golden: float
    score: float


def _grid(scores: ArrayLike) -> Floats:
    each = as_scores("scores", scores, axes="P V")
    if min(each.shape) < 2:
        raise InputError(f"scores (P, V) need at least 2 configurations and 2 values, not shape {each.shape}")
    return each


def _spread(scores: Floats) -> Floats:
    """SD over axis 0; exactly 0 where all are equal, whatever their mean rounds to."""
    return np.where(np.ptp(scores, axis=0) <= _EQUAL * np.abs(scores).max(axis=0), 0.0, standard_deviation(scores))


def configuration_sds(scores: ArrayLike) -> Floats:
    """SD over the values in each configuration, `(P,)`: whether the source does the same everywhere.

    Args:
        scores: as in `contributed_sd`.

    >>> configuration_sds([[1.0, 3.0], [5.0, 5.0]]).round(4)
    array([1.4142, 0.    ])
    """
    return _spread(_grid(scores).T)


def contributed_sd(scores: ArrayLike) -> float:
    """Mean over the configurations of the SD over the values: what the source does when nothing else moves.

    Args:
        scores: `(P, V)`: configurations of all other sources, values of the investigated one; at least 2 of each.

    >>> contributed_sd([[1.0, 3.0], [5.0, 5.0]]).__round__(4)
    0.7071
    """
    return float(configuration_sds(scores).mean())


def mitigated_sd(scores: ArrayLike) -> float:
    """SD over the configurations of the mean over the values: what is left when the source is averaged out.

    With few values V it holds a part of the source itself, about the contributed variance over V.

    Args:
        scores: as in `contributed_sd`.

    >>> mitigated_sd([[1.0, 3.0], [5.0, 5.0]]).__round__(4)
    2.1213
    """
    return float(_spread(_grid(scores).mean(axis=1)))


def importance(scores: ArrayLike, golden: ArrayLike) -> Importance:
    """Contributed minus mitigated SD, in SDs of the golden model; above 0 the source counts as important.

    Args:
        scores: as in `contributed_sd`.
        golden: scores of runs that vary all sources, `(S,)`, at least 2.

    Returns:
        The score is NaN where all golden runs are equal.

    >>> [round(each, 3) for each in importance([[1.0, 3.0], [3.0, 5.0]], [1.0, 3.0, 5.0])]
    [1.414, 1.414, 2.0, 0.0]
    """
    contributed, mitigated = contributed_sd(scores), mitigated_sd(scores)
    whole = float(_spread(as_scores("golden", golden, least=2, axes="S")))
    return Importance(contributed, mitigated, whole, (contributed - mitigated) / whole if whole else float("nan"))
