"""Which effects a number of seeds can detect: power and smallest detectable effects.

Power belongs to the plan of a study (Card et al. 2020, "With Little Power Comes Great Responsibility"): an effect
below what the seeds can detect is neither shown nor ruled out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

from deni.errors import InputError
from deni.measures.arrays import check_least, check_positive, check_share

_PARTS = 200  # of the chi-square distribution, over which the power is averaged; the error is below 1e-3


def sd_ratio_power(
    seeds: int,
    ratio: float,
    correlation: float | None = 0.0,
    *,
    alpha: float = 0.05,
    one_sided: bool = False,
    blocks: int = 1,
) -> float:
    """Probability that the Pitman-Morgan test finds a true ratio of SDs, for normal scores.

    Given the sum of the pairs, the test is a t test of a regression on it: the power is that of the non-central t
    distribution, averaged over the chi-square distribution of the sum's variance.

    Args:
        seeds: of all blocks together.
        ratio: SD of one strategy over that of the other; with `one_sided`, the way that the test looks.
        correlation: of the paired scores, between -1 and 1; `None`: not paired, the F test.
        blocks: in how many blocks the seeds are.

    >>> round(sd_ratio_power(20, 1.5), 2), round(sd_ratio_power(20, 1.5, correlation=0.8), 2)
    (0.4, 0.78)
    """
    _check(seeds, alpha, blocks)
    check_positive("ratio", ratio)
    degrees, tail = seeds - blocks, alpha if one_sided else alpha / 2
    if correlation is None:
        above, below = scipy.stats.f.isf(tail, degrees, degrees), scipy.stats.f.ppf(tail, degrees, degrees)
        power = scipy.stats.f.sf(above / ratio**2, degrees, degrees)
        return float(power if one_sided else power + scipy.stats.f.cdf(below / ratio**2, degrees, degrees))
    if not -1 < correlation < 1:
        raise InputError(f"correlation must be between -1 and 1, not {correlation}")
    slope = (ratio**2 - 1) / (2 * ratio * np.sqrt(1 - correlation**2))
    centers = slope * np.sqrt(scipy.stats.chi2.ppf((np.arange(_PARTS) + 0.5) / _PARTS, degrees))
    critical = scipy.stats.t.isf(tail, degrees - 1)
    power = scipy.stats.nct.sf(critical, degrees - 1, centers).mean()
    return float(power if one_sided else power + scipy.stats.nct.sf(critical, degrees - 1, -centers).mean())


def detectable_sd_ratio(
    seeds: int,
    correlation: float | None = 0.0,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    one_sided: bool = False,
    blocks: int = 1,
) -> float:
    """Smallest true ratio of SDs (larger over smaller) that the test finds with the given power.

    With `one_sided` it also plans non-inferiority: the true ratio must be below margin / result.

    Args:
        seeds: of all blocks together.
        correlation: of the paired scores; `None`: not paired. Pairing over seeds helps where it is far from 0.
        power: above alpha, below 1. At 0.5 and not paired, the result is the observed ratio that is just significant.
        blocks: in how many blocks the seeds are.

    >>> round(detectable_sd_ratio(20), 2), round(detectable_sd_ratio(20, correlation=0.8), 2)
    (1.94, 1.51)
    """
    _check(seeds, alpha, blocks)
    return float(
        np.exp(
            _smallest(
                lambda log: sd_ratio_power(
                    seeds, float(np.exp(log)), correlation, alpha=alpha, one_sided=one_sided, blocks=blocks
                ),
                power,
                alpha,
            )
        )
    )


def detectable_difference(
    seeds: int,
    sd: float,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    one_sided: bool = False,
    blocks: int = 1,
) -> float:
    """Smallest true mean difference that a paired t test finds with the given power: from the non-central t.

    Args:
        seeds: of all blocks together.
        sd: of the differences: of scores with SDs a, b and correlation r, the root of a**2 + b**2 - 2 r a b.
        power: above alpha, below 1.
        blocks: in how many blocks of equal size the seeds are.

    Returns:
        In the unit of `sd`. With `one_sided` it also plans non-inferiority: the true difference must be above
        result - margin.

    >>> round(detectable_difference(20, 0.02), 4)
    0.0132
    """
    _check(seeds, alpha, blocks)
    check_positive("sd", sd)
    degrees, tail = seeds - blocks, alpha if one_sided else alpha / 2
    critical = scipy.stats.t.isf(tail, degrees)

    def power_at(effect: float) -> float:
        center = effect * np.sqrt(seeds)
        found = scipy.stats.nct.sf(critical, degrees, center)
        return float(found if one_sided else found + scipy.stats.nct.sf(critical, degrees, -center))

    return sd * _smallest(power_at, power, alpha)


def _smallest(power_at: Callable[[float], float], power: float, alpha: float) -> float:
    """Find the effect at which the power, which grows with it from alpha on, is reached."""
    if not alpha < power < 1:
        raise InputError(f"power must be above alpha = {alpha} and below 1, not {power}")
    high = 0.5
    while power_at(high) < power:
        high *= 2
    return float(scipy.optimize.brentq(lambda effect: power_at(effect) - power, 0.0, high, xtol=1e-6))


def _check(seeds: int, alpha: float, blocks: int) -> None:
    check_share("alpha", alpha)
    check_least("blocks", blocks, 1)
    check_least("seeds", seeds, blocks + 3)
