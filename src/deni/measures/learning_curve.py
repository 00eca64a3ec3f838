"""What a score would be with more labels: a power law of the number of texts, with an interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Estimate, Floats, as_numbers, check_share

# How fast an error falls with the texts: outside of this range a few noisy scores fit anything.
EXPONENTS = np.geomspace(0.25, 1.0, 15)
# What an interval needs beside the bootstrap, chosen on other draws of labels than benchmarks/forecast.py reports.
SHAPE, REPEATS, LEVEL = 0.3, 0.5, 1.25
RARE = 5  # texts of a class below which its F1 with more of them may be anything


class PowerLaw(NamedTuple):
    """score(n) = limit - scale * n ** -exponent; each a number, or an array `(...)`."""

    limit: Floats
    scale: Floats
    exponent: Floats

    def at(self, sizes: ArrayLike) -> Floats:
        """The scores with so many texts, `(..., T)`.

        >>> PowerLaw(np.array(0.9), np.array(1.0), np.array(0.5)).at([25, 100])
        array([0.7, 0.8])
        """
        steps = np.asarray(sizes, dtype=float) ** -np.asarray(self.exponent)[..., None]
        return np.asarray(self.limit)[..., None] - np.asarray(self.scale)[..., None] * steps


class Forecast(NamedTuple):
    """With so many texts `(T,)`: the score, and how much it gains over the texts that there are."""

    totals: Floats
    score: Estimate
    gain: Estimate


def fit_power_law(sizes: ArrayLike, scores: ArrayLike, highest: float = 1.0) -> PowerLaw:
    """The power law with the least squares, weighted by the root of the size, since scores of few texts are noisier.

    The limit is at most `highest`, the score never falls with more texts, and the exponent is one of `EXPONENTS`; for
    each of them the best limit and scale have a closed form.

    Args:
        sizes: numbers of texts, `(S,)`, at least 3 different ones.
        scores: `(..., S)`.

    >>> law = fit_power_law([25, 50, 100, 200], 0.9 - np.array([25, 50, 100, 200.0]) ** -0.5)
    >>> law.limit.round(3), law.scale.round(3), law.exponent.round(3)
    (np.float64(0.9), np.float64(1.0), np.float64(0.5))
    """
    n, s = as_numbers("sizes", sizes, "S"), as_numbers("scores", scores, "... S")
    if len(n) < 3 or s.shape[-1] != len(n) or (n < 1).any() or len(np.unique(n)) < 3:
        raise InputError(f"a power law needs scores at 3 sizes or more, not {s.shape[-1:]} scores at {n.tolist()}")
    errors, weights = highest - s, np.sqrt(n) / np.sqrt(n).sum()
    mean = errors @ weights
    found = [np.full(mean.shape, np.inf), np.zeros(mean.shape), np.zeros(mean.shape), np.zeros(mean.shape)]
    for exponent in EXPONENTS:
        x = n**-exponent
        center, square = weights @ x, weights @ x**2
        scale = np.maximum(((errors * weights) @ x - mean * center) / (square - center**2), 0)
        rest = mean - scale * center  # the error that stays
        below = rest < 0
        scale = np.where(below, (errors * weights) @ x / square, scale)
        rest = np.where(below, 0, rest)
        loss = ((errors - rest[..., None] - scale[..., None] * x) ** 2) @ weights
        better = loss < found[0]
        found = [
            np.where(better, new, old)
            for new, old in zip((loss, highest - rest, scale, np.full(mean.shape, exponent)), found, strict=True)
        ]
    return PowerLaw(*found[1:])


def forecast(
    sizes: ArrayLike,
    scores: ArrayLike,
    drawn: ArrayLike,
    now: int,
    totals: ArrayLike,
    *,
    rare: float = 0.0,
    confidence: float = 0.9,
    highest: float = 1.0,
) -> Forecast:
    """Scores with more texts, by a power law through those of fewer.

    Intervals are normal. A gain has the variance of the power laws through the drawn scores, and adds what training
    on other texts changes (`REPEATS`, of the SD between repeats), what the shape does (`SHAPE`, of the gain: the truth
    is no power law), and rare classes. A score has the variance of its level in place of the gain's, times `LEVEL`.
    benchmarks/forecast.py tests both against what more labels gave.

    Args:
        sizes: numbers of texts, `(S,)`.
        scores: of R repeats of a cross-validation, `(R, S)`.
        drawn: their means on other texts, `(B, S)`, from a bootstrap.
        now: how many texts there are.
        totals: how many there would be, `(T,)`.
        rare: the standard deviation that classes of very few texts add, see `sd_of_rare_classes`.
        confidence: of the intervals.
        highest: possible score.

    >>> sizes = np.array([25, 50, 100, 200.0])
    >>> scores = 0.9 - sizes ** -0.5
    >>> found = forecast(sizes, [scores, scores], np.stack([scores - 0.01, scores + 0.01]), 200, [400])
    >>> found.score.value.round(3), found.gain.value.round(3)
    (array([0.85]), array([0.021]))
    """
    check_share("confidence", confidence)
    n, curves = as_numbers("totals", totals, "T"), as_numbers("drawn", drawn, "B S")
    repeats = as_numbers("scores", scores, "R S")
    points = np.concatenate([[now], n])
    law = fit_power_law(sizes, repeats.mean(0), highest)
    value = law.at(points)  # (1 + T,)
    others = fit_power_law(sizes, curves, highest).at(points)  # (B, 1 + T)
    gain = value[1:] - value[0]
    if len(repeats) > 1:
        between = REPEATS**2 * repeats.var(0, ddof=1).mean()
    else:  # how far the scores are from the law says how much a training varies
        between = REPEATS**2 * curves.var(0).mean() + ((repeats[0] - law.at(sizes)) ** 2).mean()
    common = (SHAPE * gain) ** 2 + between + rare**2
    quantile = scipy.stats.norm.ppf((1 + confidence) / 2)
    of_gain = quantile * np.sqrt((others[:, 1:] - others[:, :1]).var(0) + common)
    of_score = LEVEL * quantile * np.sqrt(others.var(0)[1:] + common)
    top = np.minimum(value[1:] + of_score, highest)
    return Forecast(n, Estimate(value[1:], value[1:] - of_score, top), Estimate(gain, gain - of_gain, gain + of_gain))


def sd_of_rare_classes(counts: ArrayLike) -> float:
    """The standard deviation of macro F1 that comes from classes `(C,)` of fewer than `RARE` texts.

    The F1 of such a class with more labels may be anything from 0 to 1, and is one part in C of the score.

    >>> round(sd_of_rare_classes([50, 40, 30, 3]), 3), sd_of_rare_classes([50, 40])
    (0.072, 0.0)
    """
    each = as_numbers("counts", counts, "C")
    return float(np.sqrt((each < RARE).sum() / 12) / len(each))
