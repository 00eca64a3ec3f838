"""Whether a strategy is at least as good as another: non-inferiority, with margins fixed beforehand.

Failing to find a difference does not prove equality: a small study finds none. Non-inferiority reverses the test:
the null hypothesis is "worse by the margin or more", and few seeds reject it rarely (Piaggio et al. 2012, the
extension of the CONSORT statement).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import as_pairs, check_positive, check_share
from deni.measures.blocks import as_blocks
from deni.measures.comparison import pitman_morgan
from deni.measures.spread import standard_deviation

F1_MARGIN = 0.003  # 0.3 points of F1, as a fraction
SD_MARGIN = 1.1  # ratio of SDs
LEAST_SEEDS = 20  # fewer support no claim about spread


class NonInferiority(NamedTuple):
    """The difference or ratio, the one-sided bound that must clear the margin, the p-value, and whether it does."""

    value: float
    bound: float
    margin: float
    p_value: float
    holds: bool


def non_inferior_mean(
    first: ArrayLike,
    second: ArrayLike,
    margin: float = F1_MARGIN,
    *,
    alpha: float = 0.05,
    blocks: ArrayLike | None = None,
) -> NonInferiority:
    """Test whether the mean score of the first is less than `margin` below that of the second: a paired t test.

    It speaks of other seeds on the same test texts. For other texts as well, compare the margin with the lower end of
    `mean_difference(..., confidence=1 - 2 * alpha)`.

    Args:
        first, second: scores, higher is better, `(S,)`, at least 3 seeds.
        margin: in the unit of the scores, fixed before the scores were seen.
        blocks: the block of each seed, `(S,)`: differences are taken within blocks, and blocks count equally.

    Returns:
        `value` is the mean difference, `bound` the lower end of its one-sided interval; it `holds` above -margin.

    >>> runs = np.array([0.80, 0.82, 0.81, 0.79])
    >>> non_inferior_mean(runs + [0.002, 0.001, 0.0, 0.001], runs).holds
    True
    """
    check_share("alpha", alpha)
    check_positive("margin", margin)
    one, other = as_pairs(first, second, least=3, axes="S")
    block = as_blocks(blocks, len(one))
    difference = one - other
    sizes = np.bincount(block)
    value = float((np.bincount(block, weights=difference) / sizes).mean())
    error = float(standard_deviation(difference, block) * np.sqrt((1 / sizes).sum())) / len(sizes)
    degrees = len(one) - len(sizes)
    bound = value - float(scipy.stats.t.ppf(1 - alpha, degrees)) * error
    if error == 0:
        return NonInferiority(value, bound, margin, 0.0 if value > -margin else 1.0, value > -margin)
    return NonInferiority(
        value, bound, margin, float(scipy.stats.t.sf((value + margin) / error, degrees)), bound > -margin
    )


def non_inferior_sd(
    first: ArrayLike,
    second: ArrayLike,
    margin: float = SD_MARGIN,
    *,
    alpha: float = 0.05,
    blocks: ArrayLike | None = None,
) -> NonInferiority:
    """Test whether the SD of the first is less than `margin` times that of the second, by Pitman-Morgan.

    Args:
        first, second: scores, `(S,)`, at least 20 seeds.
        margin: a ratio above 1, fixed before the scores were seen.
        blocks: the block of each seed, `(S,)`: the spread is the one within blocks.

    Returns:
        `value` is the ratio of the SDs, `bound` the upper end of its one-sided interval; it `holds` below the margin.

    Raises:
        InputError: with fewer than 20 seeds.

    >>> runs = np.random.default_rng(0).normal(size=20)
    >>> non_inferior_sd(runs / 3, runs[::-1]).holds
    True
    """
    check_share("alpha", alpha)
    one, other = as_pairs(first, second, least=1, axes="S")
    if len(one) < LEAST_SEEDS:
        raise InputError(f"{len(one)} seeds support no claim about spread: run at least {LEAST_SEEDS}")
    if not (margin > 1 and np.isfinite(margin)):
        raise InputError(f"margin is a ratio of SDs above 1, not {margin}")
    test = pitman_morgan(one, other, margin, "less", confidence=1 - 2 * alpha, blocks=blocks)
    return NonInferiority(float(test.ratio), float(test.high), margin, float(test.p_value), bool(test.high < margin))
