"""What a row of a study's tables holds: comparisons, mean ranks, predictions, forks, failures.

Scores are in points: 100 times what `deni.measures` gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deni.analysis.comparisons import Comparison
from deni.analysis.forks import mean_of_known, summarize_forks
from deni.analysis.ranks import Ranking
from deni.analysis.runs import Group
from deni.study.store.database import Row

NAN = float("nan")

COMPARED = (
    *("baseline", "pairs", "blocks", "difference", "low", "high", "p_mean", "mean_shown", "sd_ratio"),
    *("sd_ratio_low", "sd_ratio_high", "p_sd", "sd_shown"),
)


def comparison(each: Comparison) -> dict[str, Any]:
    """A strategy against the baseline in one setting."""
    ratio = (NAN, NAN, NAN) if each.spread is None else tuple(map(float, each.spread[:3]))
    return {
        **each.first.where,
        "baseline": each.second.strategy,
        "pairs": each.pairs,
        "blocks": each.blocks,
        "difference": 100 * each.difference,
        "low": 100 * each.low,
        "high": 100 * each.high,
        "p_mean": each.p_mean,
        "mean_shown": each.of_mean,
        "sd_ratio": ratio[0],
        "sd_ratio_low": ratio[1],
        "sd_ratio_high": ratio[2],
        "p_sd": each.p_spread,
        "sd_shown": each.of_spread,
    }


RANKED = ("strategy", "over", "datasets", "mean_rank", "low", "high", "p_value")


def mean_ranks(ranking: Ranking) -> Iterator[dict[str, Any]]:
    """A row for each strategy; `low` and `high` are half a critical difference to either side."""
    half = ranking.found.difference / 2
    for strategy, rank in zip(ranking.strategies, ranking.found.ranks, strict=True):
        ends = (float(rank), float(rank) - half, float(rank) + half)
        values = (strategy, ranking.label, ranking.datasets, *ends, ranking.found.p_value)
        yield dict(zip(RANKED, values, strict=True))


def instability(group: Group) -> dict[str, Any]:
    """How much the predictions of the seeds differ, and calibration; means over the blocks."""
    found = [block.measures for block in group.blocks if block.measures is not None]
    return {
        **group.where,
        "disagreement": mean_of_known(100 * each.disagreement for each in found),
        "kappa": mean_of_known(each.kappa for each in found),
        "jsd": mean_of_known(each.jsd for each in found),
        "ece": mean_of_known(100 * each.ece for each in found),
        "brier": mean_of_known(each.brier for each in found),
        "nll": mean_of_known(each.nll for each in found),
    }


RELIABILITY = ("confidence", "accuracy", "share", "count")


def reliability(group: Group) -> Iterator[dict[str, Any]]:
    """Confidence, accuracy and share, in percent, of each bin that has texts, of all runs; blocks count equally.

    `count` is how many predictions of all runs are in the bin.
    """
    measured = [(block, block.measures) for block in group.blocks if block.measures is not None]
    blocks = [(block, found.reliability) for block, found in measured if found.reliability is not None]
    if not blocks:
        return
    found = [each for _, each in blocks]
    counts = np.sum([np.rint(each.share * block.texts * len(block.rows)) for block, each in blocks], axis=0)  # (bins,)
    share, confidence, accuracy = (np.stack(each) for each in zip(*found, strict=True))  # (B, bins)
    for place, total in enumerate(share.sum(0)):
        if total > 0:
            weights = share[:, place] / total
            yield {
                **group.where,
                "confidence": 100 * float(weights @ confidence[:, place]),
                "accuracy": 100 * float(weights @ accuracy[:, place]),
                "share": 100 * float(total / len(share)),
                "count": int(counts[place]),
            }


FORKS = (
    *("fork", "step", "stop", "members", "ends_in", "runs", "disagreement_at_fork", "disagreement_at_end"),
    *("distance_at_fork", "distance_at_end"),
)


def diversity(group: Group) -> Iterator[dict[str, Any]]:
    """A row for each fork."""
    named = group.where
    return (named | row for row in summarize_forks(row.diagnostics.get("forks", []) for row in group.rows))


FAILED = ("block", "seed", "what", "points", "reason")


def failures(group: Group) -> Iterator[dict[str, Any]]:
    """Runs without a result, runs at chance, and members that failed."""
    named = group.where
    for row in group.failed:
        yield named | _failure(row, "no result", NAN, row.reason)
    for block in group.blocks:
        for row, score in zip(block.rows, block.scores, strict=True):
            if score <= block.chance:
                reason = f"no better than the majority class ({100 * block.chance:.1f})"
                yield named | _failure(row, "at chance", 100 * float(score), reason)
            for member in row.diagnostics.get("failed_runs", []):
                yield named | _failure(row, "a member failed", 100 * float(score), str(member))


def _failure(row: Row, what: str, points: float, reason: str) -> dict[str, Any]:
    values = (row.cell.block, row.cell.seed, what, points, reason)
    return dict(zip(FAILED, values, strict=True))
