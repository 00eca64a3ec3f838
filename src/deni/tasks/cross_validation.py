"""How strongly the regression in place of an output layer is regularized: C by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deni.errors import SettingError
from deni.tasks.base import Task
from deni.tasks.losses import Soft

FOLDS = 5

# Fits an output layer: features (N, D), labels, C, and `rows` where they count differently -> weight (C, D), bias (C,).
Fit = Callable[..., tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Chosen:
    """What cross-validation has found.

    Args:
        c: the C with the least loss.
        losses: the mean loss on texts that a fit has not seen, of each C that was tried.
        logits: of the chosen C, for each text by the fit that has not seen it, `(N, C)`.
    """

    c: float
    losses: tuple[float, ...]
    logits: np.ndarray


def choose_c(
    fit: Fit,
    features: np.ndarray,
    labels: np.ndarray,
    task: Task,
    grid: Sequence[float],
    weight: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> Chosen:
    """The C whose fits have the least loss on the texts that they have not seen; of equal ones the smallest.

    The loss is the task's own, such as the log loss of classes.

    Args:
        fit: the regression.
        features: `(N, D)`.
        labels: see `Task.fit_output_layer`.
        grid: what to try, in ascending order.
        weight: of each class, `(C,)`; None where all count alike.
        rows: how much each text counts, `(N,)`; None where all count alike.

    Raises:
        SettingError: too few texts to leave some out.
    """
    parts = folds(labels)
    losses, best, logits = [], np.inf, np.empty(0)
    for c in grid:
        found = out_of_fold(fit, features, labels, parts, c, rows)
        losses.append(_loss(task, found, labels, weight, rows))
        if losses[-1] < best:
            best, logits = losses[-1], found
    return Chosen(grid[int(np.argmin(losses))], tuple(losses), logits)


def folds(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows that are left out, at most `FOLDS` times: stratified by class, in their order.

    Args:
        labels: classes `(N,)`; of several labels, or numbers, any: then each row goes to the next fold.
    """
    from sklearn.model_selection import StratifiedKFold

    classes = labels.ndim == 1 and labels.dtype.kind in "iu"
    most = int(np.bincount(labels).max()) if classes else len(labels)
    if most < 2:
        raise SettingError("cross-validation leaves texts out, and no class has two: give C a number in place of cv")
    count = min(FOLDS, most)
    if not classes:
        fold = np.arange(len(labels)) % count
        return [(np.flatnonzero(fold != at), np.flatnonzero(fold == at)) for at in range(count)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # it is missing from one fold's fit
        return list(StratifiedKFold(count).split(np.zeros((len(labels), 1)), labels))


def out_of_fold(
    fit: Fit,
    features: np.ndarray,
    labels: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    c: float,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """The logits of each text by the fit that has not seen it, `(N, C)`."""
    found: np.ndarray | None = None
    for seen, left_out in parts:
        own = {} if rows is None else {"rows": rows[seen]}
        weight, bias = fit(features[seen], labels[seen], c, **own)
        if found is None:
            found = np.empty((len(features), len(bias)))
        found[left_out] = features[left_out] @ weight.T + bias
    assert found is not None
    return found


def centered_sd(logits: np.ndarray, task: Task) -> float:
    """The standard deviation of logits `(N, C)` around the mean of each text's; of several labels, that of each label.

    >>> from deni.tasks import find_task
    >>> centered_sd(np.array([[1.0, 3.0], [5.0, 1.0]]), find_task("single_label"))
    1.5811388300841898
    """
    centered = logits - logits.mean(1 if task.distribution else 0, keepdims=True)
    return float(np.sqrt((centered**2).mean()))


def _loss(
    task: Task, logits: np.ndarray, labels: np.ndarray, weight: np.ndarray | None, rows: np.ndarray | None
) -> float:
    import torch

    given = torch.from_numpy(labels)
    if task.of_words and rows is None:  # one text with all words
        logits, given = logits[None], given[None]
    own = None if weight is None else torch.from_numpy(weight)
    soft = {} if rows is None else {"soft": Soft(weights=torch.from_numpy(rows))}
    return float(task.member_losses(torch.from_numpy(logits), given, 1, own, **soft)[0])
