"""Scores of strategies in their settings: means, SDs, intervals, cost, ranks and Pareto fronts.

Scores are in points: 100 times what `deni.measures` gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from deni.analysis.runs import Group, Runs, Setting, mean_score
from deni.measures import gain_per_step, mean_interval, pareto_front, sd_interval
from deni.tasks import TASKS
from deni.tasks.metrics import called

NAN = float("nan")


def result_rows(runs: Runs, leading: set[tuple[Setting, str]], baseline: str) -> list[dict[str, Any]]:
    """A row for each strategy in each setting, with its rank, its Pareto fronts, and its gain over the baseline.

    Args:
        leading: settings and the strategies that are shown to have the highest mean in them.
        baseline: the strategy whose cost is the unit of the gains.
    """
    rows: list[dict[str, Any]] = []
    for setting in runs.settings:
        groups = runs.of(setting)
        ranks = pd.Series([-mean_score(group) for group in groups]).rank()
        found = [result_row(group) | {"rank": rank} for group, rank in zip(groups, ranks, strict=True)]
        for name, of, low in (("pareto_mean", "mean", False), ("pareto_sd", "sd", True)):
            front = _front([row["member_steps"] for row in found], [row[of] for row in found], low)
            found = [row | {name: bool(on)} for row, on in zip(found, front, strict=True)]
        found = [row | gains for row, gains in zip(found, _gains(found, baseline), strict=True)]
        rows += [row | {"best": (setting, group.strategy) in leading} for row, group in zip(found, groups, strict=True)]
    return rows


def _front(cost: Sequence[float], value: Sequence[float], low: bool) -> np.ndarray:
    """The Pareto front of those whose cost and value are known."""
    known = np.isfinite(cost) & np.isfinite(value)
    front = np.zeros(len(known), dtype=bool)
    if known.any():
        front[known] = pareto_front(np.array(cost)[known], np.array(value)[known], lower_is_better=low)
    return front


def _gains(some: Sequence[Mapping[str, Any]], baseline: str) -> list[dict[str, float]]:
    """Gain in the mean and drop in the SD for each cost of the baseline in extra member-steps; NaN where none are."""
    columns = np.array([[row[name] for name in ("member_steps", "mean", "sd")] for row in some], dtype=np.float64).T
    known: list[int] = np.flatnonzero(np.isfinite(columns).all(0) & (columns[0] > 0)).tolist()
    found = np.full((2, len(some)), NAN)
    base = [place for place, at in enumerate(known) if some[at]["strategy"] == baseline]
    if base:
        cost, mean, sd = columns[:, known]
        found[:, known] = gain_per_step(cost, mean, sd, base[0])
        found *= cost[base[0]]
    return [{"gain_per_baseline": gain, "drop_per_baseline": drop} for gain, drop in found.T.tolist()]


RESULT = (
    *("score", "seeds", "blocks", "texts", "no_result", "at_chance", "mean", "mean_low", "mean_high"),
    *("sd", "sd_low", "sd_high", "worst", "member_steps", "seconds", "tflops"),
)


def result_row(group: Group) -> dict[str, Any]:
    """Mean, SD, worst seed and cost of a strategy in one setting; no interval where no block has two seeds."""
    several = [block for block in group.blocks if len(block.scores) > 1]
    mean, sd = (NAN, NAN), (NAN, NAN, NAN)
    if several:
        scores = np.concatenate([block.scores for block in several])
        blocks = np.repeat([block.number for block in several], [len(block.scores) for block in several])
        mean = mean_interval(scores, blocks=blocks)[1:]
        sd = sd_interval(scores, blocks=blocks)
    texts = sorted({block.texts for block in group.blocks})
    return {
        **group.where,
        "score": called(TASKS[group.setting.task].compared),
        "seeds": len(group.scores),
        "blocks": len(group.blocks),
        "texts": texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}",
        "no_result": len(group.failed),
        "at_chance": int(group.at_chance.sum()),
        "mean": 100 * mean_score(group),
        **_points("mean", *mean),
        "sd": 100 * float(sd[0]),
        **_points("sd", *sd[1:]),
        "worst": 100 * float(group.scores.min()),
        "member_steps": group.mean_of("member_steps"),
        "seconds": group.mean_of("seconds"),
        "tflops": group.mean_of("flops") / 1e12,
    }


def _points(name: str, low: float, high: float) -> dict[str, float]:
    return {f"{name}_low": 100 * float(low), f"{name}_high": 100 * float(high)}


def run_rows(group: Group) -> Iterator[dict[str, Any]]:
    """A row for each run."""
    for block in group.blocks:
        for row, score in zip(block.rows, block.scores, strict=True):
            yield {
                **group.where,
                "block": block.number,
                "seed": row.cell.seed,
                "points": 100 * float(score),
                "at_chance": bool(score <= block.chance),
            }
