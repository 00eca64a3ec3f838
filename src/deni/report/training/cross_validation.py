"""What the folds of a cross-validation say, for the verdict and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deni.cross_validation.estimating import sentences
from deni.report.html.frame import Column
from deni.report.training.tiles import ends, score
from deni.tasks import Task
from deni.tasks.metrics import called


def state_estimate(found: Mapping[str, Any], task: Task) -> Iterator[str]:
    """The sentences about the estimate, for the verdict."""
    value, low, high = ends(found, task)
    how, assumes = sentences(found)
    times = f", divided {found['divisions']} times" if found["divisions"] > 1 else ""
    interval = f"{100 * found['confidence']:.0f} % interval {low} to {high}"
    yield f"Expect {called(task.headline)} {value} ({interval}), {how} in {found['folds']} folds{times}; it {assumes}."
    if "merged" in found:
        value, low, high = ends(found["merged"], task)
        yield f"Merged into one model (deni export --as single): {value} ({low} to {high})."


def fold_columns(found: Mapping[str, Any], task: Task) -> list[Column]:
    """The score of each fold, for a table."""
    rows = [
        (division, fold, score(value, task.in_points))
        for division, values in enumerate(found["by_fold"], 1)
        for fold, value in enumerate(values, 1)
    ]
    several = found["divisions"] > 1
    return [
        *([Column("division", [str(row[0]) for row in rows])] if several else []),
        Column("fold left out", [str(row[1]) for row in rows]),
        Column(called(task.headline), [row[2] for row in rows]),
    ]
