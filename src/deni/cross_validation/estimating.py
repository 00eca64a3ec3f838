"""How good the delivered model is, from the out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deni.artifact import OutOfFold
from deni.artifact.out_of_fold import VOTE
from deni.measures.folds import WIDENED, of_delivered, pseudo_values
from deni.tasks import Task

CONFIDENCE = 0.95


def estimate(found: OutOfFold, task: Task) -> dict[str, Any]:
    """An estimate of the score of the model that is trained on all texts, as JSON values: for `deni.json`.

    `folds`, `divisions` and `trained_on` (the share of the labels that each fold was trained on) say how; `metric` is
    the task's headline; `score`, `low`, `high` are the estimate and its interval; `metrics` has all metrics of each
    predictor; `by_fold` the headline of each fold of each division.
    """
    gold, folds = texts_of(found)
    values = {name: contributions(gold, folds, outputs, found.labels, task) for name, outputs in found.outputs.items()}
    count = int(folds.max()) + 1
    result: dict[str, Any] = {
        "folds": count,
        "divisions": len(folds),
        "trained_on": 1 - 1 / count,
        "metric": task.headline,
        **interval(*values[VOTE], count, folds.shape[1], task),
        "confidence": CONFIDENCE,
        "widened": WIDENED,
        "metrics": {},
        "by_fold": [
            [
                task.scores(*_rows(found, gold, outputs, np.flatnonzero(of == fold)), found.labels)[task.headline]
                for fold in range(count)
            ]
            for of, outputs in zip(folds, found.outputs[VOTE], strict=True)
        ],
    }
    for name, outputs in found.outputs.items():
        each = [task.scores(gold, division, found.labels) for division in outputs]
        result["metrics"][name] = {metric: float(np.mean([one[metric] for one in each])) for metric in each[0]}
        if name != VOTE:
            result[name] = interval(*values[name], count, folds.shape[1], task)
    return result


def sentences(estimated: Mapping[str, Any]) -> list[str]:
    """What an estimate rests on, for whoever reads it.

    >>> sentences({"trained_on": 0.8})
    ['estimated by training on 80 % of the labels', "assumes that new texts come in the labels' mix of classes"]
    """
    return [
        f"estimated by training on {100 * estimated['trained_on']:.0f} % of the labels",
        "assumes that new texts come in the labels' mix of classes",
    ]


def contributions(
    gold: list[Any], folds: np.ndarray, outputs: np.ndarray, labels: Sequence[str], task: Task
) -> tuple[float, np.ndarray]:
    """The score, mean over divisions, and what each fold of each division adds to it, `(S, K)`.

    Args:
        gold: of the N texts, see `texts_of`.
        folds: `(S, N)`.
        outputs: `(S, N, C)`; of words `(S, W, C)`.
    """
    parts = [
        pseudo_values(task.headline_by_weight(gold, division, labels), of)
        for division, of in zip(outputs, folds, strict=True)
    ]
    return float(np.mean([value for value, _ in parts])), np.stack([each for _, each in parts])


def interval(
    score: float, values: np.ndarray, folds: int, texts: int, task: Task, widened: float = WIDENED
) -> dict[str, float]:
    """The estimate `score` with the ends of its interval, `low` and `high`.

    Args:
        score: of the pooled predictions, mean over divisions.
        values: what each fold of each division adds to it, `(S, K)`, see `deni.measures.folds.pseudo_values`.
        folds: K.
        texts: N.
        widened: see `deni.measures.folds.of_delivered`.
    """
    low, high = of_delivered(values, 1 / (folds - 1), widened, CONFIDENCE)
    shift = score - float(values.mean())  # the pooled score is in the middle; pseudo-values have another mean
    low, high = low + shift, high + shift
    if task.in_points and score == 1:  # the folds do not differ, and know nothing of errors that did not happen
        low = 1 - 3 / texts
    return {"score": score, "low": float(np.clip(low, task.least, 1.0)), "high": float(np.clip(high, task.least, 1.0))}


def texts_of(found: OutOfFold) -> tuple[list[Any], np.ndarray]:
    """Gold and folds `(S, N)` of the texts; of words as lists of tags, a text each."""
    if found.texts is None:
        return found.gold, found.folds
    starts = np.flatnonzero(np.diff(found.texts, prepend=-1))
    gold = [list(tags) for tags in np.split(np.asarray(found.gold), starts[1:])]
    return gold, found.folds[:, starts]


def _rows(
    found: OutOfFold, gold: Sequence[Any], outputs: np.ndarray, texts: np.ndarray
) -> tuple[list[Any], np.ndarray]:
    """Gold and outputs of some texts."""
    rows = texts
    if found.texts is not None:
        starts = np.flatnonzero(np.diff(found.texts, prepend=-1))
        rows = np.flatnonzero(np.isin(found.texts, found.texts[starts[texts]]))
    return [gold[at] for at in texts], outputs[rows]
