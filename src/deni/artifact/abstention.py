"""Where a model answers so that an accuracy is supported: of its out-of-fold predictions, or of others' labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from deni.artifact.out_of_fold import OutOfFold
from deni.errors import InputError
from deni.measures import Selection, accuracy_coverage, choose_threshold
from deni.measures.selective import RISK
from deni.tasks import Task

TARGETS = (0.9, 0.95, 0.99)  # which a trained model tells of


def why_no_abstention(task: Task) -> str:
    """Why a task has no accuracy that could be promised; empty where it has."""
    if task.one_class:
        return ""
    return "a text has several answers, not one" if task.chooses else "numbers are near or far, not right or wrong"


def surest(predictions: OutOfFold, task: Task, temperature: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each text, `(N,)`, and whether its answer is right; of the first division into folds."""
    votes = torch.from_numpy(np.asarray(predictions.outputs["vote"][0]))
    confidence = task.temper(votes, temperature).amax(-1).double().exp().numpy()
    return np.minimum(confidence, 1.0), votes.argmax(-1).numpy() == np.asarray(predictions.gold)


def select(
    predictions: OutOfFold, task: Task, temperature: float | None, accuracy: float, risk: float = RISK
) -> Selection:
    """The largest coverage at which predictions support an accuracy, see `deni.measures.choose_threshold`.

    Args:
        predictions: for texts that the model has not learned, each with one class.
        temperature: of the vote.

    Raises:
        InputError: labels that do not suffice.
    """
    return choose_threshold(*surest(predictions, task, temperature), accuracy, risk)


def describe_abstention(predictions: OutOfFold, task: Task, temperature: float | None) -> dict[str, Any]:
    """The content of `abstention` in `deni.json`: accuracy at each coverage, and what the usual targets come to."""
    confidence, right = surest(predictions, task, temperature)
    curve = accuracy_coverage(confidence, right)
    targets: dict[str, Any] = {}
    for accuracy in TARGETS:
        try:
            targets[f"{accuracy:g}"] = choose_threshold(confidence, right, accuracy)._asdict()
        except InputError as error:
            targets[f"{accuracy:g}"] = {"refused": str(error)}
    rows = zip(*(each.tolist() for each in curve), strict=True)
    return {
        "texts": len(right),
        "risk": RISK,
        "curve": [dict(zip(curve._fields, row, strict=True)) for row in rows],
        "targets": targets,
    }
