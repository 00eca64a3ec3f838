"""Whether two strategies differ, in mean and in spread, paired over seeds and test examples.

`first` and `second` are paired: entry s of both has the same seed (and block). A difference is first minus second, a
ratio first over second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import (
    Estimate,
    Floats,
    Ints,
    as_numbers,
    as_pairs,
    as_predictions,
    check_alternative,
    check_least,
    check_positive,
    check_share,
)
from deni.measures.blocks import as_blocks, within_blocks
from deni.measures.resampling import draw_counts, expanded_percentiles, studentized
from deni.measures.scores import Score, macro_f1

_AT_ONCE = 250  # resamples; more need memory, not less time


class Block(NamedTuple):
    """Predictions of two strategies, `(S, N)` each, and the right classes `(N,)`, of one choice of texts."""

    first: ArrayLike
    second: ArrayLike
    gold: ArrayLike


class Difference(NamedTuple):
    """A mean difference with its interval, and those of each block: an estimate of arrays `(B,)`."""

    value: float
    low: float
    high: float
    blocks: Estimate


class PairedSpread(NamedTuple):
    """SD of the first over SD of the second, its interval, the p-value, and the correlation of the paired scores."""

    ratio: Any
    low: Any
    high: Any
    p_value: Any
    correlation: Any


def mean_difference(
    blocks: Sequence[Block],
    score: Score = macro_f1,
    *,
    generator: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Difference:
    """Mean difference of a score, with a bootstrap over seeds x test examples: would other seeds and texts agree?

    Each resample draws the seeds and, crossed with them, the examples of each block; both strategies get the same
    ones. What is particular to one seed on one example counts once, not three times as in the plain crossed bootstrap
    (Owen 2007, "The pigeonhole bootstrap"). The ends are expanded percentiles (Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap"), since plain ones are too narrow at 20 seeds; where these would be beyond all that is
    drawn (at 95 % with fewer than 8 seeds), percentiles further in are stretched.
    Blocks count equally and are not drawn: the interval holds for these choices of labels.

    Args:
        blocks: one or more; the sizes S and N may differ, S is at least 2.
        score: a function of `(predictions, gold, weights)`, such as `macro_f1`.
        generator: draws seeds and examples; the same generator, the same interval.

    >>> right = np.arange(40) % 2
    >>> better, worse = np.tile(right, (5, 1)), np.tile(right, (5, 1))
    >>> worse[:, :8] = 1 - worse[:, :8]
    >>> found = mean_difference([Block(better, worse, right)], generator=np.random.default_rng(0), resamples=500)
    >>> round(found.value, 2), found.low > 0, found.high < 0.5
    (0.2, True, True)
    """
    check_share("confidence", confidence)
    check_least("resamples", resamples, 100)
    check_least("the number of blocks", len(blocks), 1)
    values, drawn, sizes = [], np.empty((len(blocks), resamples)), []
    for place, block in enumerate(blocks):
        first, gold = as_predictions(block.first, block.gold)
        second, _ = as_predictions(block.second, block.gold)
        if first.shape != second.shape or len(first) < 2:
            shapes = f"{first.shape} and {second.shape}"
            raise InputError(f"block {place}: first and second (S, N) need one shape, 2 seeds or more, not {shapes}")
        values.append(float((score(first, gold) - score(second, gold)).mean()))
        sizes.append(len(first))
        drawn[place] = _draw_differences(first, second, gold, score, resamples, generator)
    value = float(np.mean(values))
    each = np.array(
        [
            expanded_percentiles(one, own, confidence, [size])
            for one, own, size in zip(drawn, values, sizes, strict=True)
        ]
    )
    low, high = expanded_percentiles(drawn.mean(0), value, confidence, sizes)
    return Difference(value, low, high, Estimate(np.array(values), each[:, 0], each[:, 1]))


def _draw_differences(
    first: Ints, second: Ints, gold: Ints, score: Score, resamples: int, generator: np.random.Generator
) -> Floats:
    """Bootstrap the mean difference of one block over seeds x examples: `(R,)`.

    Crossed draws count what is particular to one seed on one example three times (Owen 2007): with the examples, with
    the seeds, and with both. So the parts of examples and seeds are added, and the sum is scaled to count it once.
    """
    seeds, examples = first.shape
    by_seed = score(first, gold) - score(second, gold)  # (S,)
    parts = []
    for start in range(0, resamples, _AT_ONCE):
        size = min(_AT_ONCE, resamples - start)
        texts, runs = (draw_counts(each, size, generator) for each in (examples, seeds))
        difference = score(first, gold, texts) - score(second, gold, texts)  # (R, S)
        parts.append([difference.mean(1), runs @ by_seed / seeds, (difference * runs).sum(1) / seeds])
    value = by_seed.mean()
    of_texts, of_seeds, of_both = np.concatenate(parts, axis=1) - value  # (R,) each
    variances = of_texts.var(), of_seeds.var()
    if sum(variances) == 0:
        return np.full(resamples, value)
    once = max(sum(variances) - (of_both - of_texts - of_seeds).var(), *variances)
    return value + (of_texts + of_seeds) * np.sqrt(once / sum(variances))


def pitman_morgan(
    first: ArrayLike,
    second: ArrayLike,
    ratio: float = 1.0,
    alternative: Literal["two-sided", "less", "greater"] = "two-sided",
    *,
    confidence: float = 0.95,
    blocks: ArrayLike | None = None,
) -> PairedSpread:
    """Test whether two SDs of paired scores have a given ratio (Pitman 1939, Morgan 1939).

    SDs are equal where sum and difference of the pairs are uncorrelated: a t test of that correlation, with S - B - 1
    degrees of freedom, exact for normal scores. With heavy tails (a few failed runs) it rejects far too often: look at
    `sd_permutation`, too.

    Args:
        first, second: scores, `(S, ...)`, at least 4 seeds.
        ratio: SD of the first over SD of the second, under the null hypothesis.
        alternative: what the p-value speaks for: another ratio, a lower one, a higher one.
        confidence: of the two-sided interval of the ratio, from the same test.
        blocks: the block of each seed, `(S,)`: the spread is the one within blocks.

    Returns:
        Each `(...)`.

    Raises:
        InputError: all scores of a strategy are equal.

    >>> wide, narrow = np.array([1.0, 5.0, 9.0, 2.0, 8.0]), np.array([4.0, 4.6, 5.5, 5.1, 4.8])
    >>> found = pitman_morgan(wide, narrow)
    >>> round(float(found.ratio), 2), round(float(found.p_value), 4)
    (6.3, 0.0061)
    """
    check_share("confidence", confidence)
    check_positive("ratio", ratio)
    check_alternative(alternative)
    one, other = as_pairs(first, second, least=4)
    (mine, left), (yours, _) = within_blocks(one, blocks), within_blocks(other, blocks)
    degrees = left - 1
    check_least("the degrees of freedom (seeds - blocks - 1)", degrees, 1)
    xx, yy, xy = (mine**2).sum(0), (yours**2).sum(0), (mine * yours).sum(0)
    if (xx <= 1e-24 * (one**2).sum(0)).any() or (yy <= 1e-24 * (other**2).sum(0)).any():
        raise InputError("all scores of a strategy are equal (within blocks): its SD is 0, and no ratio is defined")
    correlation = np.clip(xy / np.sqrt(xx * yy), -1, 1)
    variances = xx / yy
    # Of sum and difference: above/below is their correlation; 1 - (above/below)**2 = rest / below**2.
    above, rest = variances - ratio**2, 4 * ratio**2 * variances * (1 - correlation**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(above == 0, 0.0, above * np.sqrt(degrees / rest))
    tails = {"less": scipy.stats.t.cdf(statistic, degrees), "greater": scipy.stats.t.sf(statistic, degrees)}
    p_value = tails.get(alternative, 2 * scipy.stats.t.sf(np.abs(statistic), degrees))
    middle = 1 + 2 * (1 - correlation**2) * scipy.stats.t.ppf((1 + confidence) / 2, degrees) ** 2 / degrees
    width = np.sqrt(middle**2 - 1)
    # middle - width = 1 / (middle + width): no cancellation.
    return PairedSpread(
        np.sqrt(variances),
        np.sqrt(variances / (middle + width)),
        np.sqrt(variances * (middle + width)),
        p_value,
        correlation,
    )


def log_sd_ratio(
    first: ArrayLike,
    second: ArrayLike,
    *,
    generator: np.random.Generator,
    resamples: int = 10_000,
    confidence: float = 0.95,
    blocks: ArrayLike | None = None,
) -> Estimate:
    """Log of SD of the first over SD of the second, with a paired bootstrap: no normal scores are assumed.

    Seeds are drawn in pairs, within their blocks; the interval is studentized, since the percentile interval is
    too narrow at 20 seeds. Below 0 the first is more stable. With failed runs this one is too narrow as well: look at
    `sd_permutation`.

    Args:
        first, second: scores, `(S,)`, at least 4 seeds and 3 different values.
        generator: draws the seeds.
        blocks: the block of each seed, `(S,)`.

    >>> narrow = np.random.default_rng(0).normal(size=20)
    >>> found = log_sd_ratio(narrow, 3 * narrow[::-1], generator=np.random.default_rng(1))
    >>> round(found.value, 4), bool(found.high < 0)
    (-1.0986, True)
    """
    one, other = as_pairs(first, second, least=4, axes="S")
    return studentized(np.stack([one, other], 1), np.array([1.0, -1.0]), generator, resamples, confidence, blocks)


def sd_permutation(
    first: ArrayLike,
    second: ArrayLike,
    ratio: float = 1.0,
    alternative: Literal["two-sided", "less", "greater"] = "two-sided",
    *,
    generator: np.random.Generator,
    resamples: int = 10_000,
    blocks: ArrayLike | None = None,
) -> float:
    """Test whether two SDs of paired scores have a given ratio, by swapping the strategies within pairs of seeds.

    The only test of spread here that keeps its level with failed runs: if the strategies differ by a shift alone,
    swapping the two scores of a pair, less their medians, changes nothing (means would follow the failed runs). The
    statistic orders as the log ratio of the SDs does.

    Args:
        first, second: scores, `(S,)`, at least 4 seeds.
        ratio: SD of the first over SD of the second, under the null hypothesis; 1.1 for non-inferiority.
        alternative: what the p-value speaks for: another ratio, a lower one, a higher one.
        generator: draws which pairs are swapped.
        blocks: the block of each seed, `(S,)`: medians are those of the blocks; a block of two is swapped as one.

    Returns:
        The p-value, at least 1 / resamples.

    >>> runs = np.random.default_rng(0).normal(size=20)
    >>> sd_permutation(runs / 3, runs[::-1], generator=np.random.default_rng(1)) < 0.01
    True
    """
    check_alternative(alternative)
    check_positive("ratio", ratio)
    check_least("resamples", resamples, 100)
    one, other = as_pairs(first, second, least=4, axes="S")
    (mine, _), (yours, _) = within_blocks(one, blocks, np.median), within_blocks(ratio * other, blocks, np.median)
    block = as_blocks(blocks, len(one))
    sizes = np.bincount(block)
    of_block = np.eye(len(sizes))[block]  # (S, B)
    # The two deviations of a block of two are one number twice: swapped one by one, equal SDs are rejected too often.
    unit = np.where(sizes[block] == 2, block, len(sizes) + np.arange(len(block)))
    swapped = generator.integers(2, size=(resamples, len(sizes) + len(block)), dtype=np.int8)[:, unit]  # (R, S)
    swapped[0] = 0  # the scores as they are
    moved = swapped.astype(np.float64) @ np.column_stack([(yours - mine)[:, None] * of_block, yours**2 - mine**2])

    def spread(scores: Floats, gained: Floats) -> Floats:
        """SD (R,), times the root of S - B, from the sums of the blocks and of all squares."""
        sums, squares = scores @ of_block + gained[:, :-1], (scores**2).sum() + gained[:, -1]
        return np.sqrt(np.maximum(squares - (sums**2 / sizes).sum(1), 0))

    above, below = spread(mine, moved), spread(yours, -moved)
    # The difference over the sum grows with the log ratio, and one of the SDs may be 0.
    total = np.where(above + below > 0, above + below, 1)
    ratios = {"less": below - above, "greater": above - below}.get(alternative, np.abs(above - below)) / total
    return float((ratios >= ratios[0] - 1e-9).mean())


def holm(p_values: ArrayLike) -> Floats:
    """Adjust the p-values of several tests so that any false rejection is as rare as alpha (Holm 1979).

    Args:
        p_values: `(H,)`, from 0 to 1.

    Returns:
        `(H,)`: reject where it is at most alpha.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = as_numbers("p_values", p_values, "H")
    if ((values < 0) | (values > 1)).any():
        raise InputError(f"p_values must be from 0 to 1, not from {values.min()} to {values.max()}")
    order = values.argsort()
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1)
    return adjusted
