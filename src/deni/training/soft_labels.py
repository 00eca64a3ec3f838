"""Columns of a training set that say what its rows are to learn, and how much each counts: read, collated, checked.

`soft_labels`, `(C,)`, takes the place of the label in the loss: probabilities of classes, which sum to 1; of several
labels one each; numbers; of words `(T, C)`, a row for each token, of which those whose label is -100 do not count.
`sample_weight` is a number of at least 0. The loss is the mean over rows, each as much as it counts. The columns never
reach the model, and no evaluation reads them; what needs classes reads `labels`, which must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deni.errors import SettingError, short
from deni.tasks import Task
from deni.tasks.losses import Soft
from deni.training.batches import tokens

SOFT_LABELS, SAMPLE_WEIGHT = COLUMNS = ("soft_labels", "sample_weight")
TOLERANCE, OUTSIDE = 1e-3, 1e-6  # of the sum of probabilities, and of each


def taken_from(inputs: dict[str, Any], names: Sequence[str]) -> Soft | None:
    """What a batch has in these columns, which it has none of afterwards; None if it had none."""
    found = {name: inputs.pop(name) for name in names if name in inputs}
    return Soft(found.get(SOFT_LABELS), found.get(SAMPLE_WEIGHT)) if found else None


@dataclass
class SoftCollator:
    """Collates soft targets and weights by itself, and the rest of each row with another collator, which may be any.

    Args:
        collate: the other collator; it must keep the rows and their order.
        names: of the columns.
        side: where words are padded, `right` or `left`.
    """

    collate: Callable[[list[Any]], Any]
    names: Sequence[str]
    side: str = "right"

    def __call__(self, rows: list[Any]) -> Any:
        names = [name for name in self.names if isinstance(rows[0], Mapping) and name in rows[0]]
        if not names:
            return self.collate(rows)
        own = {name: [np.asarray(row[name]) for row in rows] for name in names}
        batch = dict(self.collate([{key: row[key] for key in row if key not in names} for row in rows]))
        counts = {len(value) for value in batch.values() if isinstance(value, Tensor) and value.dim()}
        if counts - {len(rows)}:
            raise SettingError(
                f"the data collator makes {', '.join(map(str, sorted(counts)))} of {len(rows)} rows: with "
                f"{' and '.join(names)} it must keep the rows"
            )
        return batch | {name: self._batch(values, batch) for name, values in own.items()}

    def _batch(self, values: list[np.ndarray], batch: Mapping[str, Any]) -> Tensor:
        """The values of all rows; those of words `(T, C)` with zeros where the batch is padded."""
        if len({each.shape[values[0].ndim == 2 :] for each in values}) > 1:
            raise SettingError(f"soft_labels have shapes {sorted({each.shape for each in values})}: give all rows one")
        if values[0].ndim == 2:
            length = tokens(batch)
            values = [self._padded(each, length - len(each)) for each in values]
        return torch.tensor(np.stack(values), dtype=torch.get_default_dtype())

    def _padded(self, values: np.ndarray, more: int) -> np.ndarray:
        if more < 0:
            raise SettingError(
                f"soft_labels of {len(values)} tokens for a text of {len(values) + more}: give one row of "
                "probabilities for each token, also for those whose label is -100"
            )
        return np.pad(values, [(more, 0) if self.side == "left" else (0, more), (0, 0)])


def shows_columns(dataset: Any) -> bool:
    """Whether a training set shows its columns: lists and datasets of `datasets` do.

    Streams do not, nor do those with a transform that makes the rows anew.
    """
    if type(dataset) in (list, tuple):
        return bool(dataset) and isinstance(dataset[0], Mapping)
    return hasattr(dataset, "with_format") and hasattr(dataset, "__len__") and dataset.format["type"] != "custom"


def shown(dataset: Any, name: str) -> list[Any] | None:
    """A column of a training set; None where it has none, or does not show it."""
    if not shows_columns(dataset) or name not in _column_names(dataset):
        return None
    if type(dataset) in (list, tuple):
        return [row.get(name) for row in dataset]
    return list(dataset.with_format(None)[name])


def _column_names(dataset: Any) -> Collection[str]:
    return dataset[0] if type(dataset) in (list, tuple) else dataset.column_names


def columns_in(datasets: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Those of these columns that training sets show; raises SettingError where some have one and some have not."""
    found = []
    for name in names:
        having = [shows_columns(each) and name in _column_names(each) for each in datasets]
        if any(having) and not all(having):
            raise SettingError(
                f"train_dataset[{having.index(True)}] has the column {name}, train_dataset[{having.index(False)}] has "
                "not: give it to each seed, or to none"
            )
        found += [name] if all(having) else []
    return found


def check_sets(
    datasets: Sequence[Any], names: Sequence[str], task: Task | None, outputs: int | None, labels: str = "labels"
) -> None:
    """Look at each value of what training sets show.

    Args:
        datasets: of each seed.
        names: of the columns that they show.
        task: what a text has; None where that is not known.
        outputs: C, of the model; None where that is not known.
        labels: the column of these.

    Raises:
        SettingError: what is no target of the task, or no weight.
    """
    for at, dataset in enumerate(datasets):
        where = "train_dataset" if len(datasets) == 1 else f"train_dataset[{at}]"
        if SAMPLE_WEIGHT in names:
            weights = shown(dataset, SAMPLE_WEIGHT) or []
            for row, value in enumerate(weights):
                _check_weight(value, f"{where}[{row}]: sample_weight")
            if not any(weights):
                raise SettingError(f"{where}: every sample_weight is 0, so nothing is learned: give some row a weight")
        if SOFT_LABELS in names:
            targets = shown(dataset, SOFT_LABELS) or []
            if _all_fit(targets, task, outputs):
                continue
            own = (task is not None and task.of_words and shown(dataset, labels)) or [None] * len(targets)
            for row, (value, label) in enumerate(zip(targets, own, strict=True)):
                _check_target(value, label, f"{where}[{row}]: soft_labels", task, outputs)


def _all_fit(targets: Sequence[Any], task: Task | None, outputs: int | None) -> bool:
    """Whether the targets of all texts are right, at once; else, and of words, each is looked at."""
    if task is None or task.of_words:
        return False
    try:
        rows = np.array(targets, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return rows.shape == (len(targets), outputs) and not _why_no_target(rows, task)


def check_batch(soft: Soft, labels: Tensor, task: Task | None) -> None:
    """Look at each value of a batch, of a training set that does not show its columns; see `check_sets`."""
    for value in [] if soft.weights is None else soft.weights.tolist():
        _check_weight(value, "a row of the training set: sample_weight")
    for value, label in [] if soft.targets is None else zip(soft.targets.cpu(), labels.cpu(), strict=True):
        outputs = None if not value.dim() else value.shape[-1]
        _check_target(value.numpy(), label.numpy(), "a row of the training set: soft_labels", task, outputs)


def _check_weight(value: Any, what: str) -> None:
    number = _numbers(value, what)
    if number.ndim:
        raise SettingError(f"{what} has shape {number.shape}: give one number for each row")
    if not (np.isfinite(number) and number >= 0):
        raise SettingError(f"{what} is {number}: give a finite number of at least 0")


def _check_target(value: Any, label: Any, what: str, task: Task | None, outputs: int | None) -> None:
    given = _numbers(value, what)
    if task is None:
        if why := _why_no_target(given, task):
            raise SettingError(f"{what} {why}")
        return
    wanted: tuple[int, ...] = given.shape[-1:] if outputs is None else (outputs,)
    if task.of_words:
        wanted = (*given.shape[:1], *wanted) if label is None else (len(label), *wanted)
    one_number = not task.chooses and given.size == 1 and wanted == (1,)
    if given.shape != wanted and not one_number:
        a_row = "one row for each token, and in it " if task.of_words else ""
        raise SettingError(f"{what} have shape {given.shape}, not {wanted}: give {a_row}a number for each output")
    if task.of_words and label is not None:
        given = given[np.asarray(label) != -100]
    if why := _why_no_target(given, task):
        raise SettingError(f"{what} {why}")


def _why_no_target(given: np.ndarray, task: Task | None) -> str:
    """What is wrong with targets `(..., C)`, and what to do; empty for right ones."""
    if not np.isfinite(given).all():
        return "are not finite: give numbers"
    if task is None or not task.chooses:
        return ""
    if (wrong := given[(given < -OUTSIDE) | (given > 1 + OUTSIDE)]).size:
        return f"have {wrong[0]:g}: give probabilities, from 0 to 1"
    totals = np.atleast_1d(given.sum(-1))
    if task.distribution and (wrong := totals[np.abs(totals - 1) > TOLERANCE]).size:
        return f"sum to {wrong[0]:g}: give probabilities of all classes, which sum to 1"
    return ""


def _numbers(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise SettingError(f"{what}: {short(value)} where numbers were expected") from None
