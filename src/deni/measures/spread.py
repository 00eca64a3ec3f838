"""How much the scores of the seeds vary."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Estimate, Floats, as_scores, check_share
from deni.measures.blocks import as_blocks, within_blocks
from deni.measures.resampling import studentized


def standard_deviation(scores: ArrayLike, blocks: ArrayLike | None = None) -> Floats:
    """SD over the seeds, with n - 1; within blocks, where they are given: n - B, for B blocks.

    Args:
        scores: `(S, ...)`, at least 2 seeds.
        blocks: the block of each seed, `(S,)`: numbers or names.

    >>> float(standard_deviation([1.0, 3.0, 5.0]))
    2.0
    >>> float(standard_deviation([1.0, 3.0, 11.0, 13.0], blocks=[0, 0, 1, 1]).round(3))
    1.414
    """
    residuals, degrees = within_blocks(as_scores("scores", scores, least=2), blocks)
    return np.sqrt((residuals**2).sum(0) / degrees)


def mean_interval(scores: ArrayLike, confidence: float = 0.95, blocks: ArrayLike | None = None) -> Estimate:
    """Mean over the seeds and its confidence interval from the t distribution: would other seeds agree?

    It speaks of other seeds on the same test texts, and of these blocks, which count equally. With a failed run it is
    wide, as it should be.

    Args:
        scores: `(S, ...)`, at least 2 seeds.
        confidence: between 0 and 1.
        blocks: the block of each seed, `(S,)`.

    >>> [round(float(each), 2) for each in mean_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.45, 4.55]
    """
    check_share("confidence", confidence)
    each = as_scores("scores", scores, least=2)
    block = as_blocks(blocks, len(each))
    sizes = np.bincount(block)
    mean = np.stack([each[block == place].mean(0) for place in range(len(sizes))]).mean(0)
    error = standard_deviation(each, block) * np.sqrt((1 / sizes).sum()) / len(sizes)
    width = scipy.stats.t.ppf((1 + confidence) / 2, len(each) - len(sizes)) * error
    return Estimate(mean, mean - width, mean + width)


def sd_interval(scores: ArrayLike, confidence: float = 0.95, blocks: ArrayLike | None = None) -> Estimate:
    """SD and its confidence interval from the chi-square distribution: exact for normal scores.

    Too narrow where tails are heavy (a failed run among good ones); compare with `sd_bootstrap`. Where all scores are
    equal it is 0 to 0, which does not cover other seeds.

    Args:
        scores: `(S, ...)`, at least 2 seeds.
        confidence: between 0 and 1.
        blocks: the block of each seed, `(S,)`: the spread is the one within blocks.

    >>> [round(float(each), 2) for each in sd_interval([1.0, 2.0, 3.0, 4.0])]
    [1.29, 0.73, 4.81]
    """
    check_share("confidence", confidence)
    each = as_scores("scores", scores, least=2)
    spread, (_, degrees) = standard_deviation(each, blocks), within_blocks(each, blocks)
    low, high = scipy.stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], degrees)
    return Estimate(spread, spread * np.sqrt(degrees / low), spread * np.sqrt(degrees / high))


def sd_bootstrap(
    scores: ArrayLike, *, generator: np.random.Generator, resamples: int = 10_000, confidence: float = 0.95
) -> Estimate:
    """SD and its bootstrap confidence interval over the seeds: studentized, on the log scale.

    The percentile interval of an SD is far too narrow at 20 seeds; this one (Efron & Tibshirani 1993, chapter 12) is a
    little (benchmarks/README.md has the figures).

    Args:
        scores: `(S,)`, at least 3 different values.
        generator: draws the seeds.

    >>> runs = np.random.default_rng(0).normal(size=20)
    >>> value, low, high = sd_bootstrap(runs, generator=np.random.default_rng(1))
    >>> low < value < high
    True
    """
    each = as_scores("scores", scores, least=3, axes="S")
    estimate = studentized(each[:, None], np.ones(1), generator, resamples, confidence, None)
    return Estimate(*(float(np.exp(part)) for part in estimate))


def expected_shortfall(scores: ArrayLike, share: float = 0.1) -> Floats:
    """Mean score of the worst `share` of the seeds: the score in an unlucky case.

    Where the share is not a whole number of seeds, the last one counts in part (Acerbi & Tasche 2002, "On the coherence
    of expected shortfall"; here of scores, so that higher is better).

    Args:
        scores: `(S, ...)`.
        share: alpha, above 0, at most 1 (the mean).

    >>> float(expected_shortfall([0.9, 0.5, 0.7, 0.8], share=0.5).round(3))
    0.6
    >>> float(expected_shortfall([0.9, 0.5, 0.7, 0.8], share=0.375).round(3))
    0.567
    """
    if not 0 < share <= 1:
        raise InputError(f"share must be above 0 and at most 1, not {share}")
    each = np.sort(as_scores("scores", scores), axis=0)
    counts = np.clip(share * len(each) - np.arange(len(each)), 0, 1)  # (S,)
    return np.tensordot(counts, each, axes=1) / counts.sum()
