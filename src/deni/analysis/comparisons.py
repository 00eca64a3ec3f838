"""Which strategies differ: paired over seeds and blocks, and what of it may be claimed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import t

from deni.analysis.runs import Block as OfRuns
from deni.analysis.runs import Group
from deni.errors import InputError
from deni.measures import (
    F1_MARGIN,
    LEAST_SEEDS,
    SD_MARGIN,
    Block,
    PairedSpread,
    holm,
    mean_difference,
    mean_interval,
    non_inferior_sd,
    pitman_morgan,
    sd_permutation,
)
from deni.tasks import TASKS

ALPHA = 0.05
LEAST_PAIRS = 5  # for a claim about the mean: a bootstrap over fewer seeds knows too little of their spread
OfMean = Literal["higher", "lower", "at least as good", "not shown", "too few seeds"]
OfSpread = Literal["more stable", "less stable", "at least as stable", "not shown", "too few seeds"]


@dataclass(frozen=True)
class Comparison:
    """A strategy against another one in the same setting, on the seeds and blocks that both have.

    Args:
        first, second: differences are first minus second, ratios first over second.
        pairs: seeds that both have, in all blocks.
        blocks: how many have two pairs or more.
        difference, low, high: of the mean scores, with its interval of 95 %.
        texts_vary: whether the interval holds for other test texts, too, or for other seeds only.
        p_mean, p_margin: of no difference, and of being worse by the margin; adjusted over the table's comparisons.
        spread: ratio of the SDs with its interval; None where a spread is 0, or pairs are too few.
        p_spread, p_stable: the larger p-value of Pitman-Morgan and permutation: of equal SDs, and of an SD that is
            larger by the margin; adjusted. NaN with fewer than 20 seeds.
    """

    first: Group
    second: Group
    pairs: int
    blocks: int
    difference: float
    low: float
    high: float
    texts_vary: bool
    p_mean: float
    p_margin: float
    spread: PairedSpread | None
    p_spread: float
    p_stable: float

    @property
    def of_mean(self) -> OfMean:
        """What is shown of the mean: where the interval and the adjusted p-value exclude the opposite."""
        if self.pairs < LEAST_PAIRS:
            return "too few seeds"
        if self.p_mean < ALPHA and self.low > 0:
            return "higher"
        if self.p_mean < ALPHA and self.high < 0:
            return "lower"
        of_f1 = TASKS[self.first.setting.task].compared.endswith("f1")  # which the margin is one of
        margin = of_f1 and self.low > -F1_MARGIN
        return "at least as good" if margin and self.p_margin < ALPHA else "not shown"

    @property
    def of_spread(self) -> OfSpread:
        """What is shown of the spread: where the interval and both adjusted p-values exclude the opposite."""
        if self.pairs < LEAST_SEEDS:
            return "too few seeds"
        if self.spread is None:
            return "not shown"
        if self.p_spread < ALPHA and self.spread.high < 1:
            return "more stable"
        if self.p_spread < ALPHA and self.spread.low > 1:
            return "less stable"
        return "at least as stable" if self.p_stable < ALPHA and self.spread.high < SD_MARGIN else "not shown"


def compare(
    first: Group,
    second: Group,
    generator: np.random.Generator,
    resamples: int,
    swaps: int | None = None,
    scaled: bool = False,
) -> Comparison | None:
    """Compare two strategies of a setting; None where no block has two seeds of both.

    The p-values are not adjusted yet; `swaps` are those of the permutation test where Pitman-Morgan rejects, so many
    that its p-value can stay below alpha when it is adjusted; None for `resamples`. `scaled` compares spread in units
    of each block's own, so that no dataset of many decides alone.
    """
    scores: list[tuple[np.ndarray, np.ndarray]] = []
    blocks: list[Block] = []
    for one, other in _same_blocks(first, second):
        shared = [seed for seed in one.seeds if seed in set(other.seeds)]
        if len(shared) < 2:
            continue
        here, there = ([each.seeds.index(seed) for seed in shared] for each in (one, other))
        scores.append((one.scores[here], other.scores[there]))
        if one.predictions is None or other.predictions is None or one.gold is None or other.gold is None:
            continue
        if np.array_equal(one.gold, other.gold):
            blocks.append(Block(one.predictions[here], other.predictions[there], one.gold))
    if not scores:
        return None
    mine, yours = (np.concatenate(each) for each in zip(*scores, strict=True))
    block = np.repeat(np.arange(len(scores)), [len(one) for one, _ in scores])
    degrees = len(mine) - len(scores)
    texts_vary = len(blocks) == len(scores)
    if texts_vary:
        value, low, high, _ = mean_difference(blocks, generator=generator, resamples=resamples)
    else:
        value, low, high = map(float, mean_interval(mine - yours, blocks=block))
    error = (high - low) / 2 / t.ppf(0.975, degrees)
    p_mean = float(2 * t.sf(abs(value) / error, degrees)) if error else float(value == 0)
    p_margin = float(t.sf((value + F1_MARGIN) / error, degrees)) if error else float(value <= -F1_MARGIN)
    of_spread = _scaled(mine, yours, block) if scaled else (mine, yours)
    spread, p_spread, p_stable = _spread(*of_spread, block, generator, (resamples, swaps or resamples))
    return Comparison(
        *(first, second, len(mine), len(scores), value, low, high, texts_vary),
        *(p_mean, p_margin, spread, p_spread, p_stable),
    )


def lead(there: Sequence[Group], generator: np.random.Generator, resamples: int) -> Comparison | None:
    """The highest mean against the others: the least conclusive comparison, or None where one cannot be made.

    Whoever is above each other one has the highest mean: all comparisons must hold, so that the largest p-value counts
    as it is. Those after one that does not hold are not made.

    Args:
        there: the strategies of a setting, highest mean first.
    """
    least: Comparison | None = None
    for other in there[1:]:
        found = compare(there[0], other, generator, resamples)
        if found is None or found.of_mean != "higher":
            return found
        least = found if least is None or found.p_mean > least.p_mean else least
    return least


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons that are made together, with p-values by Holm's method."""
    columns: dict[str, Any] = {}
    for name in ("p_mean", "p_margin", "p_spread", "p_stable"):
        values = np.array([getattr(each, name) for each in comparisons])
        known = ~np.isnan(values)
        if known.any():
            values[known] = holm(values[known])
        columns[name] = values.tolist()
    return [
        dataclasses.replace(each, **{name: values[place] for name, values in columns.items()})
        for place, each in enumerate(comparisons)
    ]


def _same_blocks(first: Group, second: Group) -> Iterator[tuple[OfRuns, OfRuns]]:
    others = {block.number: block for block in second.blocks}
    return ((block, others[block.number]) for block in first.blocks if block.number in others)


def _scaled(mine: np.ndarray, yours: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, in units of the spread that they have together in each block."""
    unit = np.ones(len(block))
    for one in np.unique(block):
        inside = block == one
        both = np.sqrt((mine[inside].var() + yours[inside].var()) / 2)
        unit[inside] = both or 1.0
    return mine / unit, yours / unit


def _spread(
    mine: np.ndarray, yours: np.ndarray, block: np.ndarray, generator: np.random.Generator, swaps: tuple[int, int]
) -> tuple[PairedSpread | None, float, float]:
    """Ratio of the SDs, and the p-values of a claim; a claim needs both tests, see docs/statistics.md.

    Args:
        swaps: of the permutation test: where Pitman-Morgan does not reject, and where it does.
    """
    nothing = float("nan")
    with suppress(InputError):  # an SD of 0, or too few pairs
        spread = pitman_morgan(mine, yours, blocks=block)
        if len(mine) < LEAST_SEEDS:
            return spread, nothing, nothing
        equal, larger = float(spread.p_value), non_inferior_sd(mine, yours, blocks=block).p_value
        often = [swaps[p_value < ALPHA] for p_value in (equal, larger)]
        return (
            spread,
            max(equal, sd_permutation(mine, yours, generator=generator, resamples=often[0], blocks=block)),
            max(
                larger,
                sd_permutation(mine, yours, SD_MARGIN, "less", generator=generator, resamples=often[1], blocks=block),
            ),
        )
    return None, nothing, nothing
