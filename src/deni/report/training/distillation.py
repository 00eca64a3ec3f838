"""Teacher and student, for the page of a student."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deni.distillation.measuring import rows_of
from deni.report.html.frame import Column
from deni.report.training.tiles import score
from deni.tasks import Task
from deni.tasks.metrics import called


def state_distillation(found: Mapping[str, Any] | None, task: Task) -> list[tuple[str, str]]:
    """What was learned from which texts, name and value of each line; empty for a model without a teacher."""
    return [] if found is None else list(rows_of(found, task.name))


def model_columns(found: Mapping[str, Any], task: Task) -> list[Column]:
    """A row for each of the two: the score on the test texts with its interval, and the cost."""
    names, teacher, test = ("teacher", "student"), found["teacher"], found.get("test")
    columns = [
        Column("", list(names), number=False),
        Column("models that predict", [str(teacher["members"]), "1"]),
    ]
    if test is not None:
        ends = [[score(test[name][end], task.in_points) for end in ("score", "low", "high")] for name in names]
        columns.append(Column(called(test["metric"]), [value for value, _, _ in ends]))
        columns.append(Column("95 % interval", [f"{low} to {high}" for _, low, high in ends]))
    for title, key in (("member-steps", "member_steps"), ("seconds", "seconds")):
        columns.append(Column(title, [f"{each[key]:,.0f}" if key in each else "–" for each in (teacher, found)]))
    return columns
