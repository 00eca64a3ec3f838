"""How seeds and examples are drawn again, and what interval follows: the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError, short
from deni.measures.arrays import Estimate, Floats, Ints, as_numbers, check_least, check_share
from deni.measures.blocks import as_blocks, within_blocks

_MOST = 4_000_000  # counts that are drawn at a time
_OUTERMOST = 0.005  # percentile, as a share; further out those of few seeds are far too near


def draw_seeds(block: Ints, resamples: int, generator: np.random.Generator) -> Ints:
    """Draw seeds with replacement, each from its own block: indices `(R, S)`.

    >>> drawn = draw_seeds(np.array([0, 1, 0, 1]), 50, np.random.default_rng(0))
    >>> drawn.shape, bool((drawn % 2 == [0, 1, 0, 1]).all())
    ((50, 4), True)
    """
    drawn = np.empty((resamples, len(block)), dtype=np.int64)
    for each in range(block.max() + 1):
        places = np.flatnonzero(block == each)
        drawn[:, places] = places[generator.integers(len(places), size=(resamples, len(places)))]
    return drawn


def draw_counts(total: int, resamples: int, generator: np.random.Generator) -> Floats:
    """How often each of `total` things is drawn in `total` draws with replacement: `(R, total)`."""
    drawn = generator.integers(total, size=(resamples, total)) + total * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * total).reshape(resamples, total).astype(np.float64)


def expanded_percentiles(drawn: Floats, value: float, confidence: float, seeds: Sequence[int]) -> tuple[float, float]:
    """The interval of `value` from what was `drawn` for it, `(R,)`, with so many seeds in each block.

    A bootstrap of n values has a variance of (n - 1) / n of what it should be, and normal instead of t quantiles: so
    the percentiles are taken further out. Few seeds ask for percentiles that no drawn value reaches; beyond
    `_OUTERMOST` the distance from the value is stretched instead, as in a normal distribution.
    """
    degrees, least = sum(seeds) - len(seeds), min(seeds)
    deviations = float(np.sqrt(least / (least - 1)) * scipy.stats.t.ppf((1 + confidence) / 2, degrees))
    reached = min(deviations, float(scipy.stats.norm.isf(_OUTERMOST)))
    tail = float(scipy.stats.norm.cdf(-reached))
    low, high = value + (np.quantile(drawn, [tail, 1 - tail]) - value) * deviations / reached
    return float(low), float(high)


def studentized(
    columns: Floats,
    signs: Floats,
    generator: np.random.Generator,
    resamples: int,
    confidence: float,
    blocks: ArrayLike | None,
) -> Estimate:
    """Bootstrap the sum of signed log SDs of the columns `(S, K)`, seeds drawn together, within their blocks.

    The error of the log SD comes from its influence function, (z**2 - 1) / 2 for a standardized score z.
    """
    check_share("confidence", confidence)
    check_least("resamples", resamples, 100)
    block = as_blocks(blocks, len(columns))
    if any(len(np.unique(column)) < 3 for column in columns.T):
        raise InputError(f"a bootstrap of the SD needs at least 3 different scores, got {columns.shape[0]} seeds")

    scale = columns.var(0)

    def value_and_error(drawn: Floats) -> tuple[Floats, Floats]:
        """From `(R, S, K)`, the sum `(R,)` and its standard error; NaN where all drawn scores are equal."""
        residuals, degrees = within_blocks(np.moveaxis(drawn, 1, 0), block)  # (S, R, K)
        variance = (residuals**2).sum(0) / degrees
        equal = (variance <= 1e-18 * scale).any(-1)  # (R,)
        variance = np.where(equal[:, None], np.nan, variance)
        influence = (residuals**2 / variance - 1) @ signs / 2  # (S, R)
        error = np.sqrt(influence.var(0, ddof=1) / len(influence))
        return np.log(variance) @ signs / 2, np.where(error > 1e-9, error, np.nan)

    value, error = (float(part[0]) for part in value_and_error(columns[None]))
    if np.isnan(value + error):
        raise InputError(
            "scores are equal within blocks, or the two strategies have the same scores: nothing to compare"
        )
    drawn = draw_seeds(block, resamples, generator)
    values, errors = value_and_error(columns[drawn])
    ratio = (values - value) / errors
    low, high = np.nanquantile(ratio, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, float(value - high * error), float(value - low * error))


def other_texts(
    score: Callable[[Floats], Floats],
    counts: ArrayLike,
    *,
    generator: np.random.Generator,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The interval in which a trained model's score lies on other test texts of the same kind: a percentile bootstrap.

    It does not cover training again with another seed.

    Args:
        score: from how often each kind of text counts `(R, K)` to scores `(R,)`.
        counts: how many texts are of each kind, `(K,)`. Texts are of one kind where the score cannot tell them apart:
            of one cell of the confusion matrix, say; ones where each text is its own kind.
        generator: draws the texts.

    Returns:
        The two ends.

    >>> right = np.array([0, 1])  # 20 of 100 texts are wrong
    >>> low, high = other_texts(lambda w: w @ right / w.sum(1), [20, 80], generator=np.random.default_rng(0))
    >>> round(low, 2), round(high, 2)
    (0.72, 0.88)
    """
    each = as_numbers("counts", counts, "K")
    if (each < 0).any() or each.sum() < 1 or (each != each.round()).any():
        raise InputError(f"counts (K,) are whole numbers of texts, at least 0 and one in all, not {short(counts)}")
    check_share("confidence", confidence)
    check_least("resamples", resamples, 100)
    total, values = int(each.sum()), []
    at_a_time = max(1, _MOST // len(each))
    for start in range(0, resamples, at_a_time):
        size = min(at_a_time, resamples - start)
        values.append(score(generator.multinomial(total, each / total, size=size).astype(np.float64)))
    low, high = np.quantile(np.concatenate(values), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
