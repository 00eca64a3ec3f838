"""Temperatures of an artifact: fitted on out-of-fold predictions, kept in `deni.json`, folded into an output layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from deni.artifact.out_of_fold import MEMBER, MERGED, VOTE
from deni.measures import Calibration, calibration_scores, cross_fit_temperature, reliability
from deni.models.architectures import head_names
from deni.tasks import Task

BINS = 10  # of a reliability diagram


def why_not_calibrated(task: Task, combine: str) -> str:
    """Why a vote has no probabilities to calibrate; empty where it has.

    Args:
        combine: see `deni.tasks.voting.vote`.
    """
    if not task.chooses:
        return "numbers have no probabilities"
    if combine == "hard":
        return "a hard vote gives shares of members, not probabilities"
    return ""


def fit_calibration(
    outputs: Mapping[str, np.ndarray],
    gold: Sequence[Any],
    folds: np.ndarray,
    task: Task,
    fitted_on: Literal["out_of_fold", "dev"],
) -> dict[str, Any]:
    """The content of `calibration` in `deni.json`: of each predictor its temperature, and what it changes.

    Args:
        outputs: by predictor `(S, N, C)`, as `Classifier.votes` gives them uncalibrated, for texts that it has not
            learned.
        gold: N, as `Task.encode` gives them; of words one a word.
        folds: `(S, N)`; what is measured `after` is measured on a fold by the temperature of the others.
        fitted_on: what these texts are.
    """
    found: dict[str, Any] = {"method": "temperature", "fitted_on": fitted_on, "texts": len(gold)}
    for name, values in outputs.items():
        predicted, right, parts = as_distributions(values, gold, folds, task)
        fit = cross_fit_temperature(predicted, right, parts)
        found[name] = {
            "temperature": fit.temperature,
            "before": {**_scores(fit.before), "bins": _bins(predicted, right)},
            "after": {**_scores(fit.after), "bins": _bins(fit.outputs, right)},
        }
    return found


def measure(votes: np.ndarray, gold: Sequence[Any], task: Task) -> dict[str, float]:
    """ECE, Brier score and NLL of the probabilities of a vote; of several labels, of whether a text has each.

    Args:
        votes: `(N, C)`; of words those of all texts, concatenated.
        gold: as `Task.encode` gives them.
    """
    right: Any = np.concatenate([np.asarray(each) for each in gold]) if task.of_words else gold
    predicted, right, _ = as_distributions(votes[None], right, np.zeros((1, len(votes)), int), task)
    return {name: float(value) for name, value in calibration_scores(predicted[0], right)._asdict().items()}


def as_distributions(
    outputs: np.ndarray, gold: Sequence[Any], folds: np.ndarray, task: Task
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log probabilities, the right classes and the folds; of several labels, of each whether a text has it.

    Args:
        outputs: `(S, N, C)`.
        folds: `(S, N)`.
    """
    right = np.asarray(gold)
    if task.distribution:
        return outputs, right, folds
    odds = outputs.astype(np.float64).reshape(len(outputs), -1)  # (S, N*C)
    # Dividing these two by a temperature divides the log odds by it.
    two = np.stack([-np.logaddexp(0, odds), -np.logaddexp(0, -odds)], -1)  # (S, N*C, 2)
    return two, right.reshape(-1).astype(int), folds.repeat(right.shape[1], 1)


def _scores(measured: Calibration) -> dict[str, float]:
    return {name: float(value) for name, value in measured._asdict().items()}


def _bins(predicted: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """The bins that have texts, from the least sure on: confidence, accuracy, count (mean over the divisions)."""
    share, confidence, accuracy = reliability(predicted, right, BINS)  # (S, bins)
    total = share.sum(0)
    return [
        {
            "confidence": float((share[:, at] * confidence[:, at]).sum() / total[at]),
            "accuracy": float((share[:, at] * accuracy[:, at]).sum() / total[at]),
            "count": float(total[at] / len(share) * len(right)),
        }
        for at in range(BINS)
        if total[at]
    ]


# ---- in deni.json --------------------------------------------------------------------------------------------------


def temperature_of(info: Mapping[str, Any], predictor: str = VOTE) -> float | None:
    """The temperature of a predictor of an artifact; None where it was not calibrated."""
    found = info.get("calibration", {}).get(predictor)
    return None if found is None else float(found["temperature"])


# ---- of one model --------------------------------------------------------------------------------------------------


def temperature_to_fold(info: Mapping[str, Any], size: int, merged: bool) -> float | None:
    """The temperature of the one model that is exported; None for none.

    Args:
        size: how many members the artifact has.
        merged: whether it is their mean, not one of them.
    """
    return temperature_of(info, VOTE if size == 1 else MERGED if merged else MEMBER)


@torch.no_grad()
def fold_temperature(model: nn.Module, temperature: float | None) -> None:
    """Divide the output layer by a temperature, so that the softmax of the model is calibrated."""
    if temperature is None:
        return
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    for name in head_names(model, list(parameters)):
        parameters[name].data = parameters[name].data / temperature
