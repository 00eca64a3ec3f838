"""Metrics by scikit-learn and seqeval; NumPy arrays only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

# What a metric is called where a text is not a table: in reports.
CALLED = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "mcc": "MCC",
    "pearson": "Pearson's r",
    "rmse": "RMSE",
    "entity_f1": "F1 of entities",
    "entity_precision": "precision of entities",
    "entity_recall": "recall of entities",
    "quadratic_kappa": "quadratic kappa",
    "mean_absolute_error": "mean absolute error",
}


def called(metric: str) -> str:
    """A metric in words.

    >>> called("macro_f1"), called("accuracy")
    ('macro F1', 'accuracy')
    """
    return CALLED.get(metric, metric.replace("_", " "))


def of_classes(gold: Sequence[int] | np.ndarray, predicted: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Macro F1, accuracy and MCC, each from 0 (MCC: -1) to 1; MCC is 0 where gold and predictions are all one class."""
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    one_class = len(np.union1d(gold, predicted)) == 1  # scikit-learn says 0, too, with a warning
    return {
        "macro_f1": float(f1_score(gold, predicted, average="macro")),
        "accuracy": float(accuracy_score(gold, predicted)),
        "mcc": 0.0 if one_class else float(matthews_corrcoef(gold, predicted)),
    }


def f1_by_class(gold: Sequence[int], predicted: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """F1 of each class."""
    from sklearn.metrics import classification_report

    report = classification_report(
        gold,
        predicted,
        labels=list(range(len(classes))),
        target_names=list(classes),
        output_dict=True,
        zero_division=0,
    )
    return {label: report[label]["f1-score"] for label in classes}


def of_labels(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Micro and macro F1 of 0 and 1, `(N, C)`."""
    from sklearn.metrics import f1_score

    f1 = {kind: float(f1_score(gold, predicted, average=kind, zero_division=0)) for kind in ("micro", "macro")}
    return {"micro_f1": f1["micro"], "macro_f1": f1["macro"]}


def f1_by_label(gold: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """F1 of each label of `(N, C)`."""
    from sklearn.metrics import f1_score

    each = f1_score(gold, predicted, average=None, zero_division=0)
    return dict(zip(classes, each.tolist(), strict=True))


def of_numbers(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Pearson's correlation, 0 where all numbers are equal, as MCC is; and the root of the mean squared error."""
    constant = not gold.std() or not predicted.std()
    return {
        "pearson": 0.0 if constant else float(np.corrcoef(gold, predicted)[0, 1]),
        "rmse": float(np.sqrt(np.mean((gold - predicted) ** 2))),
    }


def of_entities(
    gold: Sequence[Sequence[int]], predicted: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """seqeval's report of each type of entity, and of all as `micro avg`.

    An entity counts if its type and all its words are right.

    Args:
        gold: class numbers of the words of each text.
        predicted: of all words, `(W,)`.
        classes: the tags.
    """
    from seqeval.metrics import classification_report

    chosen = np.split(predicted, np.cumsum([len(own) for own in gold])[:-1])
    right, found = ([[classes[at] for at in own] for own in every] for every in (gold, chosen))
    with warnings.catch_warnings():  # of tags that are not IOB2, of which the user was told; of a mean over no type
        warnings.simplefilter("ignore")
        report = classification_report(right, found, output_dict=True, zero_division=0)
    return {kind: {name: float(value) for name, value in scores.items()} for kind, scores in report.items()}
