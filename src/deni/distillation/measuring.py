"""Teacher and student on the same test texts, and what a distillation found, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deni.artifact import Classifier
from deni.data.pool import sentence
from deni.finetune import Evaluation
from deni.measures import other_texts
from deni.models.tokenizing import encode
from deni.randomness import derive
from deni.tasks import TASKS
from deni.tasks.metrics import called
from deni.tasks.remarks import many, percent


def compare_on_test(teacher: Classifier, student: Evaluation, seed: int = 0) -> dict[str, Any]:
    """The headline of both on the student's test texts, each with its interval over other test texts.

    Args:
        teacher: predicts the same texts.
        student: its predictions.
        seed: of the bootstrap; both have the same resamples.
    """
    task, texts = TASKS[teacher.task], student.texts
    gold = encode(texts, teacher.labels)
    found: dict[str, Any] = {"metric": task.headline, "texts": len(texts)}
    for name, votes in (("teacher", teacher.votes(texts.texts)), ("student", student.votes)):
        score = task.headline_by_weight(gold, votes, teacher.labels)
        generator = np.random.default_rng(derive(seed, "distillation", "test"))
        low, high = other_texts(score, np.ones(len(texts)), generator=generator)
        metrics = task.scores(gold, votes, teacher.labels)
        found[name] = {"score": metrics[task.headline], "low": low, "high": high, "metrics": metrics}
    return found


def rows_of(info: Mapping[str, Any], task: str) -> Iterator[tuple[str, str]]:
    """What the key `distillation` of `deni.json` says: name and value of each line."""
    kind, pool, labeled = TASKS[task], info["pool"], info["labeled"]
    yield "pool", sentence(pool["left_out"], pool["read"], pool["used"], pool["held_out"])
    yield "labeled texts", _labeled(labeled, info["settings"]["labels_share"])
    if (test := info.get("test")) is not None:
        each = (f"{name} {_score(test[name], kind.in_points)}" for name in ("teacher", "student"))
        yield f"{called(test['metric'])} on {many(test['texts'], 'test text')}", ", ".join(each)
    if "agreement" in info:
        alike = percent(info["agreement"]) if kind.chooses else f"correlation {info['agreement']:.3f}"
        yield "student as the teacher", f"{alike} on {many(pool['held_out'])} of the pool that were held out"
    teacher = info["teacher"]
    folds = f"; folds {_spent(teacher['folds'])}" if "folds" in teacher else ""
    yield "cost of both", f"teacher {_cost(teacher, teacher['members'])}{folds}; student {_cost(info, 1)}"


def _labeled(labeled: Mapping[str, Any], share: float) -> str:
    count, known = labeled["texts"], labeled["out_of_fold"]
    lost = labeled.get("left_out", {})
    also = "".join(f"; {number:,} left out, in the {name} split" for name, number in lost.items())
    if not count:
        return "none given: the student learns from the pool alone"
    if not known:
        return f"{count:,}, with their labels alone: the teacher has no out-of-fold predictions for them (--cv 5){also}"
    alone = f"; {count - known:,} with their labels alone" if known < count else ""
    return f"{count:,}, {known:,} with {percent(share)} label and the rest out-of-fold prediction{alone}{also}"


def _score(found: Mapping[str, float], points: bool) -> str:
    value, low, high = (
        f"{100 * found[name]:.1f}" if points else f"{found[name]:.3f}" for name in ("score", "low", "high")
    )
    return f"{value} ({low} to {high})"


def _cost(found: Mapping[str, Any], members: int) -> str:
    return f"{_spent(found)}, {many(members, 'model')} to predict"


def _spent(found: Mapping[str, Any]) -> str:
    steps = f"{found['member_steps']:,} member-steps" if "member_steps" in found else "unknown steps"
    seconds = f" in {found['seconds']:,.0f} seconds" if "seconds" in found else ""
    return f"{steps}{seconds}"
