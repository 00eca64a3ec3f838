"""A regularized linear regression on features, its strength chosen by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deni.errors import SettingError
from deni.tasks import Task
from deni.tasks.cross_validation import folds

# Inverse strengths C of the L2 penalty, half a power of ten apart, for features whose rows have a norm of about 1.
GRID = tuple(10 ** (step / 2) for step in range(-2, 9))
PATIENCE = 2  # larger ones whose loss is no lower, before the search ends: the loss has one valley
MOST_ROWS = 2000  # up to which a regression is fitted in the span of its rows; a matrix (N, N) is decomposed for it

Transform = Callable[[Any], Any]  # inputs of N texts -> features (N, D), an array or a sparse matrix


@dataclass(frozen=True)
class Regression:
    """What was fitted.

    Args:
        transform: from inputs to features.
        weight, bias: of the outputs, `(C, D)` and `(C,)`.
        c: the chosen C.
        left_out: logits of each text by the fit that has not seen it, with the chosen C, `(N, C)`; None where there
            are too few texts to leave some out.
    """

    transform: Transform
    weight: np.ndarray
    bias: np.ndarray
    c: float
    left_out: np.ndarray | None = None

    def logits(self, inputs: Any) -> np.ndarray:
        """`(N, C)`."""
        return np.asarray(self.transform(inputs) @ self.weight.T) + self.bias


class Span:
    """Features in the span of the rows that are fitted: as many as rows.

    A penalty on the norm lets weights leave that span in no direction, so the regression is the same, and its fit
    takes as long as with N features in place of D. More than `MOST_ROWS` rows stay as they are.

    Args:
        features: `(N, D)`.
    """

    def __init__(self, features: Any) -> None:
        self.features, self._turned = features, None
        rows, columns = features.shape
        if rows < columns and rows <= MOST_ROWS:
            sizes, directions = np.linalg.eigh(_dense(features @ features.T))
            kept = sizes > 1e-10 * max(sizes[-1], 1e-300)
            self._turned = directions[:, kept] / np.sqrt(sizes[kept])  # (N, R)

    def __call__(self, features: Any) -> Any:
        """Features `(N, D)` in the span, `(N, R)`."""
        return features if self._turned is None else _dense(features @ self.features.T) @ self._turned

    def weight(self, weight: np.ndarray) -> np.ndarray:
        """Weights for features in the span, `(C, R)`, as weights for features `(C, D)`."""
        return weight if self._turned is None else np.asarray(self.features.T @ (self._turned @ weight.T)).T


def _dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def cross_validated(
    fit_transform: Callable[[Any], Transform],
    inputs: Any,
    gold: Sequence[Any],
    task: Task,
    outputs: int,
    balanced: bool = False,
    grid: Sequence[float] = GRID,
) -> Regression:
    """The regression with the C whose fits have the least loss on left-out texts, in five folds, by class.

    The loss is log loss for classes (also for those that have an order) and labels, the squared error for numbers.

    Args:
        fit_transform: learns from inputs how features are made; of a fold from its own texts alone.
        inputs: of N texts, an array that takes row numbers.
        gold: as `Task.encode` gives them.
        outputs: C.
        balanced: whether all classes count alike.
        grid: what to try, in ascending order.
    """
    labels = np.asarray(gold)
    weight = None
    if balanced:
        counts = np.bincount(labels, minlength=outputs)
        weight = np.divide(len(labels), outputs * counts, out=np.zeros(outputs), where=counts > 0)

    def fit(features: Any, rows: Any, c: float) -> tuple[np.ndarray, np.ndarray]:
        return task.fit_output_layer(features, labels[rows], outputs, c, True, weight)

    parts = []
    for seen, left_out in left_out_parts(labels, task):
        transform = fit_transform(inputs[seen])
        span = Span(transform(inputs[seen]))
        parts.append((seen, left_out, span(span.features), span(transform(inputs[left_out]))))
    losses: list[float] = []
    best: np.ndarray | None = None
    for c in grid if parts else ():
        values, counted = [], []
        logits = np.full((len(labels), outputs), np.nan)
        for seen, left_out, mine, others in parts:
            coefficients, bias = fit(mine, seen, c)
            logits[left_out] = np.asarray(others @ coefficients.T) + bias
            each = _losses(task, logits[left_out], labels[left_out])
            values.append(each)
            counted.append(np.ones(len(each)) if weight is None else weight[labels[left_out]])
        losses.append(float(np.average(np.concatenate(values), weights=np.concatenate(counted))))
        if losses[-1] < min(losses[:-1], default=np.inf):
            best = logits
        if len(losses) - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
    c = grid[int(np.argmin(losses))] if losses else 1.0
    transform = fit_transform(inputs)
    span = Span(transform(inputs))
    coefficients, bias = fit(span(span.features), slice(None), c)
    return Regression(transform, span.weight(coefficients), bias, c, best)


def left_out_parts(labels: np.ndarray, task: Task) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds that can be fitted; none where there are too few texts to leave some out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = folds(labels)
    except SettingError:  # each class has one text
        return []
    return [pair for pair in found if not task.distribution or len(np.unique(labels[pair[0]])) > 1]


def outputs_of(task: Task, logits: np.ndarray) -> np.ndarray:
    """Log probabilities of classes; log odds and numbers are as they are."""
    if not task.distribution:
        return logits
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _losses(task: Task, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The loss of each text, `(N,)`."""
    if task.distribution:
        return -outputs_of(task, logits)[np.arange(len(labels)), labels]
    right = labels.reshape(logits.shape)
    if task.chooses:
        return (np.logaddexp(0, logits) - right * logits).sum(-1)
    return ((logits - right) ** 2).sum(-1)
