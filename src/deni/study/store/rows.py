"""What a store keeps of a cell: its row, and its members' predictions."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from deni.study.cell import Cell
from deni.study.keys import combine_of, task_of

if TYPE_CHECKING:
    from deni.tasks.voting import Combine

Status = Literal["waiting", "running", "done", "failed"]
STATUSES: tuple[Status, ...] = ("waiting", "running", "done", "failed")
JSON = ("labels", "metrics", "cost", "diagnostics", "environment")  # columns that hold JSON
COLUMNS = (
    *("number", "key", "pack", "study", "spec", "decides", "status", "attempts", "worker"),
    *JSON,
    *("fingerprint", "traceback", "added", "started", "finished"),
)  # of the table `cells`


class Outputs(NamedTuple):
    """Per-member predictions of the texts that are measured on, see `deni.study.cell.CellResult`."""

    log_probs: np.ndarray
    gold: np.ndarray
    text_ids: np.ndarray
    merged: np.ndarray | None = None
    answers: np.ndarray | None = None


@dataclass(frozen=True)
class Row:
    """A cell of a store without its arrays, which `Store.outputs` gives.

    Args:
        cell: as the study named it, for labels; what was not given had the default of its day, which `decides` has.
        decides: all that decides the result, resolved; `key` is its SHA-256.
        study: name of the study that brought it.
        attempts: how often it was begun.
        traceback: of the last failure.
        worker: who trains it at present, see `worker_name`.
        added, started, finished: times in UTC, ISO 8601.
    """

    key: str
    pack: str
    study: str
    cell: Cell
    decides: Mapping[str, Any] = field(repr=False)
    status: Status
    attempts: int
    labels: tuple[str, ...]
    fingerprint: str
    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    diagnostics: Mapping[str, Any]
    environment: Mapping[str, Any]
    traceback: str
    worker: str
    added: str
    started: str
    finished: str

    @property
    def task(self) -> str:
        """The task, see `deni.tasks.TASKS`."""
        return task_of(self.decides)

    @property
    def combine(self) -> Combine:
        """How its members vote, as it was when the cell was planned."""
        return combine_of(self.decides)

    @property
    def reason(self) -> str:
        """The last line of the traceback: why it failed."""
        return (self.traceback.strip().splitlines() or [""])[-1]


def row_of(raw: Mapping[str, Any]) -> Row:
    """A row from the columns of the table."""
    values: dict[str, Any] = {name: json.loads(raw[name] or "{}") for name in JSON}
    values["labels"] = tuple(values["labels"])
    values |= {name: raw[name] or "" for name in ("fingerprint", "traceback", "worker", "started", "finished")}
    values |= {name: raw[name] for name in ("key", "pack", "study", "status", "attempts", "added")}
    return Row(cell=Cell.from_json(json.loads(raw["spec"])), decides=json.loads(raw["decides"]), **values)


def pack_arrays(outputs: Outputs) -> bytes:
    """As a compressed npz file, without what is None."""
    file = io.BytesIO()
    arrays: dict[str, Any] = {name: value for name, value in outputs._asdict().items() if value is not None}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def arrays_of(packed: bytes) -> Outputs:
    """What `pack_arrays` packed."""
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return Outputs(**arrays)


def same(one: Outputs, other: Outputs) -> bool:
    """Whether two cells have the same arrays."""
    pairs = zip(one, other, strict=True)
    return all(mine is its if mine is None or its is None else np.array_equal(mine, its) for mine, its in pairs)
