"""What the members of a run would have scored with another vote than the mean probability: paired, run by run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deni.analysis.runs import Group
from deni.measures import mean_interval
from deni.tasks import TASKS

# What `deni.study.execution.other_votes` measures: majority, the first member for all, the mean of the members' own
# scores, the mean of the members' parameters as one model.
OTHERS = ("hard", "parent", "members", "merged")
COLUMNS = (
    *("runs", "soft", "disagreement"),
    *(f"{name}_minus_soft{end}" for name in OTHERS for end in ("", "_low", "_high")),
)


def compute_votes(group: Group) -> Iterator[dict[str, Any]]:
    """One row, scores in points, where the runs of a group have members that vote; NaN for what was not measured."""
    metric = TASKS[group.setting.task].compared
    runs = [
        (block.number, {name: row.metrics.get(f"{name}_{metric}", float("nan")) for name in ("soft", *OTHERS)},
         row.metrics.get("disagreement", float("nan")))
        for block in group.blocks
        for row in block.rows
        if f"soft_{metric}" in row.metrics
    ]  # fmt: skip
    if not runs:
        return
    blocks = np.array([number for number, _, _ in runs])
    soft = np.array([scores["soft"] for _, scores, _ in runs])
    found: dict[str, Any] = {
        "runs": len(runs),
        "soft": 100 * _mean(soft, blocks),
        "disagreement": 100 * _mean(np.array([share for _, _, share in runs]), blocks),
    }
    for name in OTHERS:
        away = 100 * (np.array([scores[name] for _, scores, _ in runs]) - soft)
        low, high = _interval(away, blocks)
        found |= {f"{name}_minus_soft": _mean(away, blocks), f"{name}_minus_soft_low": low}
        found |= {f"{name}_minus_soft_high": high}
    yield found


def _mean(values: np.ndarray, blocks: np.ndarray) -> float:
    """Blocks count equally."""
    return float(np.mean([values[blocks == block].mean() for block in np.unique(blocks)]))


def _interval(values: np.ndarray, blocks: np.ndarray) -> tuple[float, float]:
    if np.isnan(values).any() or min(np.unique(blocks, return_counts=True)[1]) < 2:
        return float("nan"), float("nan")
    _, low, high = map(float, mean_interval(values, blocks=blocks))
    return low, high
