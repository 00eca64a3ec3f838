"""Columns of a training set that say what its rows are to learn, and how much each counts: read, collated, checked.

`soft_labels` has a target for each output of the model; `sample_weight` a number for each row. They never reach the
model, and no evaluation reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
TOLERANCE = 1e-3  # of a sum of probabilities


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


def shown(dataset: Any, name: str) -> list[Any] | None:
    """A column of a training set; None where it has none, or does not show it.

    Lists and datasets of `datasets` show theirs; not streams, nor those with a transform that makes the rows anew.
    """
    if type(dataset) in (list, tuple) and len(dataset) and isinstance(dataset[0], Mapping):
        return [row.get(name) for row in dataset] if name in dataset[0] else None
    if not hasattr(dataset, "with_format") or not hasattr(dataset, "__len__") or dataset.format["type"] == "custom":
        return None
    return list(dataset.with_format(None)[name]) if name in dataset.column_names else None


def check_sets(datasets: Sequence[Any], names: Sequence[str], task: Task | None, outputs: int | None) -> list[str]:
    """The columns that training sets show, after looking at each value.

    Args:
        datasets: of each seed.
        names: of the columns that are read.
        task: what a text has; None where that is not known.
        outputs: C, of the model; None where that is not known.

    Raises:
        SettingError: what is no target of the task, or no weight; sets of which some have a column and some have not.
    """
    found = []
    for name in names:
        columns = [shown(dataset, name) for dataset in datasets]
        having = [column is not None for column in columns]
        if not any(having):
            continue
        if not all(having):
            raise SettingError(
                f"train_dataset[{having.index(True)}] has the column {name}, train_dataset[{having.index(False)}] has "
                "not: give it to each seed, or to none"
            )
        found.append(name)
        for at, (dataset, column) in enumerate(zip(datasets, columns, strict=True)):
            where = "train_dataset" if len(datasets) == 1 else f"train_dataset[{at}]"
            if name == SAMPLE_WEIGHT:
                _check_weights(column or [], where)
            else:
                _check_targets(column or [], shown(dataset, "labels") or (), where, task, outputs)
    return found


def _check_weights(column: Sequence[Any], where: str) -> None:
    for at, value in enumerate(column):
        number = _numbers(value, f"{where}[{at}]: sample_weight")
        if number.ndim:
            raise SettingError(f"{where}[{at}]: sample_weight has shape {number.shape}: give one number for each row")
        if not (np.isfinite(number) and number >= 0):
            raise SettingError(f"{where}[{at}]: sample_weight is {number}: give a finite number of at least 0")
    if not any(column):
        raise SettingError(f"{where}: every sample_weight is 0, so nothing is learned: give some row a weight")


def _check_targets(
    column: Sequence[Any], labels: Sequence[Any], where: str, task: Task | None, outputs: int | None
) -> None:
    """Raise SettingError for a row that is no target of the task."""
    of_words = task is not None and task.of_words
    for at, value in enumerate(column):
        row = f"{where}[{at}]: soft_labels"
        given = _numbers(value, row)
        wanted = () if outputs is None else (outputs,)
        if of_words:
            wanted = (len(given) if given.ndim else 0, *wanted)
            if at < len(labels):
                wanted = (len(labels[at]), *wanted[1:])
        numbers = task is not None and not task.chooses
        fits = given.ndim == 1 + of_words if outputs is None else given.shape == wanted
        if not fits and not (numbers and given.size == (outputs or 1) and given.ndim < 2):
            shape = "(tokens, outputs)" if of_words else "(outputs,)"
            raise SettingError(f"{row} have shape {given.shape}, not {wanted}: give {shape}, a number for each output")
        if of_words and at < len(labels):
            given = given[np.asarray(labels[at]) != -100]
        if not np.isfinite(given).all():
            raise SettingError(f"{row} are not finite: give numbers")
        if numbers or task is None:
            continue
        if (given < -TOLERANCE).any() or (given > 1 + TOLERANCE).any():
            worst = float(given.min() if (given < -TOLERANCE).any() else given.max())
            raise SettingError(f"{row} have {worst:g}: give probabilities, from 0 to 1")
        if task.distribution and (off := np.abs(given.sum(-1) - 1) > TOLERANCE).any():
            total = float(np.atleast_1d(given.sum(-1))[np.atleast_1d(off)][0])
            raise SettingError(f"{row} sum to {total:g}: give probabilities of all classes, which sum to 1")


def _numbers(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise SettingError(f"{what}: {short(value)} where numbers were expected") from None
