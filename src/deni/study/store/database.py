"""Where a study is kept: one SQLite file, one row a cell, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from deni.provenance import canonical
from deni.study.cell import CellResult
from deni.study.store.connection import Connection, warn_of_superseded
from deni.study.store.rekey import rekey
from deni.study.store.rows import COLUMNS, JSON, STATUSES, Outputs, Row, Status, pack_arrays, row_of, same
from deni.study.store.validate import (
    DamagedCellError,
    check_arrays,
    check_columns,
    check_row,
    labels_of,
    name_of,
    warn_of_damaged,
)
from deni.study.store.workers import worker_name, worker_state

if TYPE_CHECKING:
    from deni.study.execution.job import Job

_RESULT = (*JSON, "fingerprint", "traceback", "started", "finished")


@dataclass(frozen=True)
class MergeResult:
    """What `Store.merge` did: how many cells were new, became done, and which have another result there."""

    new: int
    completed: int
    conflicts: tuple[str, ...]


class Store:
    """The cells of studies in one SQLite file.

    Others may read while one writes. A cell is written in one transaction, so a process that is killed, or a full
    disk, loses at most the cell that was being written.

    Args:
        path: the file.
        create: make it if it is not there.

    Raises:
        InputError: a file that is not a store, or one of a later version of deni.
    """

    def __init__(self, path: str | Path, create: bool = False) -> None:
        self.path = Path(path)
        self._file = Connection(self.path, create)

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._file.sqlite.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def add(self, jobs: Iterable[Job], study: str = "") -> int:
        """Add cells that wait; those that are there stay as they are, but take over labels and pack.

        Returns:
            How many are new.
        """
        new = 0
        with self._file.writing():
            for job in jobs:
                old = self._file.sqlite.execute("SELECT spec FROM cells WHERE key = ?", (job.key,)).fetchone()
                spec = job.cell.to_json()
                if old is not None:  # another study may compare the same cell over another factor
                    before = self._spec(job.key, old[0])
                    spec["factor"] = {**before["factor"], **spec["factor"]}
                    spec["label"] = spec["label"] or before.get("label", "")
                    self._file.sqlite.execute(
                        "UPDATE cells SET spec = ?, pack = ? WHERE key = ?", (canonical(spec), job.pack, job.key)
                    )
                    continue
                new += 1
                self._file.sqlite.execute(
                    "INSERT INTO cells (key, pack, study, spec, decides, status, added) "
                    "VALUES (?, ?, ?, ?, ?, 'waiting', ?)",
                    (job.key, job.pack, study, canonical(spec), canonical(job.decides), _now()),
                )
        return new

    def _spec(self, key: str, text: Any) -> dict[str, Any]:
        try:
            before = json.loads(text)
            return {"factor": dict(before["factor"]), "label": str(before.get("label", ""))}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise DamagedCellError(f"{self.path}: the cell {key[:12]} is damaged ({self._cure()})") from None

    def claim(self, keys: Iterable[str], worker: str | None = None) -> list[str]:
        """Begin cells; those that no longer wait are left out.

        Args:
            worker: who works on them; None for this process.

        Returns:
            The keys that are the caller's now.
        """
        with self._file.writing():
            return [
                key
                for key in keys
                if self._file.sqlite.execute(
                    "UPDATE cells SET status = 'running', attempts = attempts + 1, worker = ?, started = ? "
                    "WHERE key = ? AND status = 'waiting'",
                    (worker or worker_name(), _now(), key),
                ).rowcount
            ]

    def finish(self, key: str, result: CellResult) -> None:
        """Write the result of a cell.

        Raises:
            KeyError: no such cell.
        """
        arrays = pack_arrays(Outputs(*(getattr(result, name) for name in Outputs._fields)))
        values = {name: json.dumps(getattr(result, name), default=_plain) for name in JSON}
        values |= {"fingerprint": result.fingerprint, "finished": _now(), "key": key}
        with self._file.writing():
            changed = self._file.sqlite.execute(
                "UPDATE cells SET status = 'done', worker = NULL, traceback = NULL, labels = :labels, "
                "fingerprint = :fingerprint, metrics = :metrics, cost = :cost, diagnostics = :diagnostics, "
                "environment = :environment, finished = :finished WHERE key = :key",
                values,
            ).rowcount
            if not changed:
                raise KeyError(f"no cell {key}")
            self._file.sqlite.execute("INSERT OR REPLACE INTO outputs (key, arrays) VALUES (?, ?)", (key, arrays))

    def fail(self, key: str, traceback: str) -> None:
        """Write that a cell failed, and why; a result that is there already stays.

        Raises:
            KeyError: no such cell.
        """
        with self._file.writing():
            changed = self._file.sqlite.execute(
                "UPDATE cells SET status = CASE status WHEN 'done' THEN 'done' ELSE 'failed' END, worker = NULL, "
                "traceback = CASE status WHEN 'done' THEN traceback ELSE ? END, finished = ? WHERE key = ?",
                (traceback, _now(), key),
            ).rowcount
            if not changed:
                raise KeyError(f"no cell {key}")

    def release_stale(self, elsewhere: bool = False) -> int:
        """Let cells wait again whose worker is gone: a process of this machine that no longer runs.

        Args:
            elsewhere: those of other machines, too, of which nobody can say from here whether they still run.

        Returns:
            How many.
        """
        with self._file.writing():
            workers = self._file.sqlite.execute("SELECT DISTINCT worker FROM cells WHERE status = 'running'").fetchall()
            states = {name: worker_state(name) for (name,) in workers}
            gone = [name for name, state in states.items() if state == "gone" or (elsewhere and state == "elsewhere")]
            return sum(self.release(name) for name in gone)

    def release(self, worker: str | None = None) -> int:
        """Let the cells of a worker wait again; None: of this process."""
        with self._file.writing():
            return self._file.sqlite.execute(
                "UPDATE cells SET status = 'waiting', worker = NULL WHERE status = 'running' AND worker IS ?",
                (worker or worker_name(),),
            ).rowcount

    def retry(self, keys: Sequence[str] | None = None) -> int:
        """Let failed cells wait again: these, or all.

        Returns:
            How many.
        """
        wait = "UPDATE cells SET status = 'waiting' WHERE status = 'failed'"
        with self._file.writing():
            if keys is None:
                return self._file.sqlite.execute(wait).rowcount
            return sum(self._file.sqlite.execute(f"{wait} AND key = ?", (key,)).rowcount for key in keys)

    def merge(self, other: Store) -> MergeResult:
        """Take over the cells of another store; where both have a result, this store's is kept."""
        new, completed, conflicts = 0, 0, []
        with self._file.writing():
            for row in other._whole():
                mine = self._file.sqlite.execute("SELECT status FROM cells WHERE key = ?", (row["key"],)).fetchone()
                try:
                    theirs = other.outputs(row["key"]) if row["status"] == "done" else None
                except DamagedCellError as error:
                    warn_of_damaged([str(error)])
                    continue
                if mine is None:
                    new += 1
                    self.restore(row, other._arrays(row["key"]) if row["status"] == "done" else None)
                    continue
                if mine[0] == "done":
                    if theirs is not None and not self._agrees(row, theirs):
                        conflicts.append(row["key"])
                    continue
                if row["status"] == "done" or (row["status"] == "failed" and mine[0] == "waiting"):
                    completed += row["status"] == "done"
                    sets = ", ".join(f"{name} = :{name}" for name in ("status", "attempts", *_RESULT))
                    self._file.sqlite.execute(f"UPDATE cells SET {sets}, worker = NULL WHERE key = :key", row)
                if row["status"] == "done":
                    self._keep(row["key"], other._arrays(row["key"]))
        return MergeResult(new, completed, tuple(conflicts))

    def _agrees(self, row: Mapping[str, Any], other: Outputs) -> bool:
        """Whether a result is this store's; one of an archive has the vote alone, so its scores are compared."""
        mine = self.outputs(row["key"])
        if mine.log_probs.shape == other.log_probs.shape:
            return same(mine, other)
        with self._file.one_line():
            found = self._file.sqlite.execute("SELECT metrics FROM cells WHERE key = ?", (row["key"],)).fetchone()
        return bool(json.loads(found[0]) == json.loads(row["metrics"]))

    def _keep(self, key: str, arrays: bytes) -> None:
        self._file.sqlite.execute("INSERT OR REPLACE INTO outputs (key, arrays) VALUES (?, ?)", (key, arrays))

    def restore(self, record: Mapping[str, Any], arrays: bytes | None) -> None:
        """Take a cell as `records` gives it, which is not there yet."""
        columns = {**dict.fromkeys(COLUMNS), **record, "number": None, "worker": None}
        check_columns(list(columns), "the record")
        columns["status"] = "waiting" if columns["status"] == "running" else columns["status"]
        with self._file.writing():
            names, marks = ", ".join(COLUMNS), ", ".join(f":{name}" for name in COLUMNS)
            self._file.sqlite.execute(f"INSERT INTO cells ({names}) VALUES ({marks})", columns)
            if arrays is not None:
                self._keep(columns["key"], arrays)

    def rekey(self, source: Path) -> None:
        """Work out the keys of all cells anew, see `deni.study.store.rekey`.

        Args:
            source: the file that the cells came from, for the warning where several results were of one cell.
        """
        with self._file.writing():
            rekey(self._file.sqlite)
        warn_of_superseded(self._file.sqlite, source)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def status(self) -> dict[Status, int]:
        """How many cells wait, run, are done, have failed."""
        with self._file.one_line():
            counts = dict(self._file.sqlite.execute("SELECT status, count(*) FROM cells GROUP BY status").fetchall())
        return {status: counts.get(status, 0) for status in STATUSES}

    def waiting(self) -> list[Row]:
        """The cells that wait, in the order in which they were added."""
        return list(self.results("waiting"))

    def results(self, status: Status | None = "done") -> Iterator[Row]:
        """The cells of a status (None: all), in the order in which they were added.

        Warns:
            InputWarning: cells that are damaged, which are left out; see `damaged`.
        """
        return (row_of(raw) for raw in self._whole(status))

    def records(self, statuses: Iterable[Status] = STATUSES) -> Iterator[tuple[dict[str, Any], bytes | None]]:
        """Cells as they are kept, and their arrays where they are done: for `restore`."""
        for raw in self._whole():
            if raw["status"] in statuses:
                arrays = self._arrays(raw["key"]) if raw["status"] == "done" else None
                try:
                    if arrays is not None:
                        check_arrays(arrays, labels_of(raw))
                except DamagedCellError as error:
                    warn_of_damaged([f"{name_of(raw)}: {error}"], str(self.path), self._cure())
                    continue
                del raw["number"], raw["worker"]
                yield raw, arrays

    def statuses(self, keys: Iterable[str]) -> dict[str, Status]:
        """The status of those of the keys that are there."""
        with self._file.one_line():
            have = dict(self._file.sqlite.execute("SELECT key, status FROM cells").fetchall())
        return {key: have[key] for key in keys if key in have}

    def outputs(self, key: str) -> Outputs:
        """Per-member predictions.

        Raises:
            KeyError: a cell that is not done.
            DamagedCellError: predictions that cannot be read, or do not fit the cell.
        """
        packed = self._arrays(key)
        with self._file.one_line():
            found = self._file.sqlite.execute("SELECT labels FROM cells WHERE key = ?", (key,)).fetchone()
        try:
            if found is None:  # an index that does not fit its table
                raise DamagedCellError("its row is not found by its key")
            return check_arrays(packed, labels_of({"labels": found[0]}))
        except DamagedCellError as error:
            raise DamagedCellError(f"{self.path}, cell {key[:12]}: {error} ({self._cure()})") from None

    def damaged(self) -> dict[int, str]:
        """The rows that are not as deni writes them, by their number, with what is wrong."""
        found = {}
        for raw in self._raw():
            try:
                check_row(raw)
                if raw["status"] == "done":
                    check_arrays(self._arrays(raw["key"]), labels_of(raw))
            except DamagedCellError as error:
                name = name_of(raw)
                found[raw["number"]] = str(error) if str(error).startswith(name) else f"{name}: {error}"
            except KeyError:
                found[raw["number"]] = f"{name_of(raw)}: it is done, and has no predictions"
        return found

    def _whole(self, status: Status | None = None) -> Iterator[dict[str, Any]]:
        """The rows that are as deni writes them; the others are warned of at the end."""
        damaged = []
        with self._file.one_line():
            done = {key for (key,) in self._file.sqlite.execute("SELECT key FROM outputs")}
        for raw in self._raw(status):
            try:
                check_row(raw)
                if raw["status"] == "done" and raw["key"] not in done:
                    raise DamagedCellError(f"{name_of(raw)}: it is done, and has no predictions")
            except DamagedCellError as error:
                damaged.append(str(error))
                continue
            yield raw
        warn_of_damaged(damaged, str(self.path), self._cure())

    def _cure(self) -> str:
        return f"see `deni study check {self.path}`"

    def _arrays(self, key: str) -> bytes:
        with self._file.one_line():
            found = self._file.sqlite.execute("SELECT arrays FROM outputs WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise KeyError(f"no result of cell {key}")
        return bytes(found[0])

    def _raw(self, status: Status | None = None) -> list[dict[str, Any]]:
        which = "WHERE status = ? ORDER BY number" if status else "ORDER BY number"
        with self._file.one_line():
            cursor = self._file.sqlite.execute(
                f"SELECT {', '.join(COLUMNS)} FROM cells {which}", (status,) if status else ()
            )
            return [dict(zip(COLUMNS, values, strict=True)) for values in cursor]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    """A NumPy number as one of Python, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
