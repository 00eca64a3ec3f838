"""Where a study is kept: one SQLite file, one row a cell, each written whole or not at all."""

from __future__ import annotations

import io
import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil

from deni.errors import InputError
from deni.provenance import canonical
from deni.study.cell import Cell, CellResult, Planned
from deni.study.store import schema

Status = Literal["waiting", "running", "done", "failed"]
STATUSES: tuple[Status, ...] = ("waiting", "running", "done", "failed")
_JSON = ("labels", "metrics", "cost", "diagnostics", "environment")
_RESULT = (*_JSON, "fingerprint", "traceback", "started", "finished")


class Outputs(NamedTuple):
    """What the members said of the texts that are measured on, see `deni.study.cell.CellResult`."""

    log_probs: np.ndarray
    gold: np.ndarray
    text_ids: np.ndarray
    merged: np.ndarray | None = None


@dataclass(frozen=True)
class Row:
    """A cell of a store without its arrays, which `Store.outputs` gives.

    Args:
        decides: all that decides the result; `key` is its SHA-256.
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
    def reason(self) -> str:
        """The last line of the traceback: why it failed."""
        return (self.traceback.strip().splitlines() or [""])[-1]


@dataclass(frozen=True)
class Merged:
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
        InputError: a file that is no store, or one of a later version of deni.
    """

    def __init__(self, path: str | Path, create: bool = False) -> None:
        self.path = Path(path)
        if not create and not self.path.exists():
            raise InputError(f"{path}: no such store: check the path; `deni study run` makes one")
        if create and not self.path.absolute().parent.is_dir():
            raise InputError(f"{path}: there is no folder {self.path.absolute().parent}: make it first")
        with self._one_line():
            # Transactions are begun by hand.
            self._connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            with self._one_line():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def _open(self) -> None:
        def pragma(name: str) -> int:
            return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = pragma("user_version")
        empty = not tables and not found and not pragma("application_id")
        if not empty and pragma("application_id") != schema.APPLICATION:
            raise InputError(f"{self.path} is a database of another program, not a store of `deni study`")
        if found > schema.FORMAT:
            raise InputError(
                f"{self.path} has format {found}, and this version of deni reads up to {schema.FORMAT}: "
                "install a later version"
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")  # a cell takes minutes: a wait for the disk is nothing
        if found < schema.FORMAT:
            with self._writing():
                found = pragma("user_version")  # another process may have been first
                schema.migrate(self._connection, found) if found else schema.create(self._connection)

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def add(self, cells: Iterable[Planned], study: str = "") -> int:
        """Add cells that wait; those that are there stay as they are, but take over labels and pack.

        Returns:
            How many are new.
        """
        new = 0
        with self._writing():
            for each in cells:
                old = self._connection.execute("SELECT spec FROM cells WHERE key = ?", (each.key,)).fetchone()
                spec = each.cell.to_json()
                if old is not None:  # another study may compare the same cell over another factor
                    spec["factor"] = {**json.loads(old[0])["factor"], **spec["factor"]}
                    self._connection.execute(
                        "UPDATE cells SET spec = ?, pack = ? WHERE key = ?", (canonical(spec), each.pack, each.key)
                    )
                    continue
                new += 1
                self._connection.execute(
                    "INSERT INTO cells (key, pack, study, spec, decides, status, added) "
                    "VALUES (?, ?, ?, ?, ?, 'waiting', ?)",
                    (each.key, each.pack, study, canonical(spec), canonical(each.decides), _now()),
                )
        return new

    def claim(self, keys: Iterable[str], worker: str | None = None) -> list[str]:
        """Begin cells; those that no longer wait are left out.

        Args:
            worker: who works on them; None for this process.

        Returns:
            The keys that are the caller's now.
        """
        with self._writing():
            return [
                key
                for key in keys
                if self._connection.execute(
                    "UPDATE cells SET status = 'running', attempts = attempts + 1, worker = ?, started = ? "
                    "WHERE key = ? AND status = 'waiting'",
                    (worker or worker_name(), _now(), key),
                ).rowcount
            ]

    def finish(self, key: str, result: CellResult) -> None:
        """Write the result of a cell.

        Raises:
            KeyError: there is no such cell.
        """
        arrays = pack_arrays(Outputs(result.log_probs, result.gold, result.text_ids, result.merged))
        values = {name: json.dumps(getattr(result, name), default=_plain) for name in _JSON}
        values |= {"fingerprint": result.fingerprint, "finished": _now(), "key": key}
        with self._writing():
            changed = self._connection.execute(
                "UPDATE cells SET status = 'done', worker = NULL, traceback = NULL, labels = :labels, "
                "fingerprint = :fingerprint, metrics = :metrics, cost = :cost, diagnostics = :diagnostics, "
                "environment = :environment, finished = :finished WHERE key = :key",
                values,
            ).rowcount
            if not changed:
                raise KeyError(f"no cell {key}")
            self._connection.execute("INSERT OR REPLACE INTO outputs (key, arrays) VALUES (?, ?)", (key, arrays))

    def fail(self, key: str, traceback: str) -> None:
        """Write that a cell failed, and why; a result that is there already stays.

        Raises:
            KeyError: there is no such cell.
        """
        with self._writing():
            changed = self._connection.execute(
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
        with self._writing():
            workers = self._connection.execute("SELECT DISTINCT worker FROM cells WHERE status = 'running'").fetchall()
            states = {name: worker_state(name) for (name,) in workers}
            gone = [name for name, state in states.items() if state == "gone" or (elsewhere and state == "elsewhere")]
            return sum(self.release(name) for name in gone)

    def release(self, worker: str | None = None) -> int:
        """Let the cells of a worker wait again; None: of this process."""
        with self._writing():
            return self._connection.execute(
                "UPDATE cells SET status = 'waiting', worker = NULL WHERE status = 'running' AND worker IS ?",
                (worker or worker_name(),),
            ).rowcount

    def retry(self, keys: Sequence[str] | None = None) -> int:
        """Let failed cells wait again: these, or all.

        Returns:
            How many.
        """
        wait = "UPDATE cells SET status = 'waiting' WHERE status = 'failed'"
        with self._writing():
            if keys is None:
                return self._connection.execute(wait).rowcount
            return sum(self._connection.execute(f"{wait} AND key = ?", (key,)).rowcount for key in keys)

    def merge(self, other: Store) -> Merged:
        """Take over the cells of another store; where both have a result, this store's is kept."""
        new, completed, conflicts = 0, 0, []
        with self._writing():
            for row in other._raw():
                mine = self._connection.execute("SELECT status FROM cells WHERE key = ?", (row["key"],)).fetchone()
                if mine is None:
                    new += 1
                    self.restore(row, other._arrays(row["key"]) if row["status"] == "done" else None)
                    continue
                if mine[0] == "done":
                    if row["status"] == "done" and not self._agrees(row, other.outputs(row["key"])):
                        conflicts.append(row["key"])
                    continue
                if row["status"] == "done" or (row["status"] == "failed" and mine[0] == "waiting"):
                    completed += row["status"] == "done"
                    sets = ", ".join(f"{name} = :{name}" for name in ("status", "attempts", *_RESULT))
                    self._connection.execute(f"UPDATE cells SET {sets}, worker = NULL WHERE key = :key", row)
                if row["status"] == "done":
                    self._keep(row["key"], other._arrays(row["key"]))
        return Merged(new, completed, tuple(conflicts))

    def _agrees(self, row: Mapping[str, Any], other: Outputs) -> bool:
        """Whether a result is this store's; one of an archive has the vote alone, so its scores are compared."""
        mine = self.outputs(row["key"])
        if mine.log_probs.shape == other.log_probs.shape:
            return _same(mine, other)
        with self._one_line():
            found = self._connection.execute("SELECT metrics FROM cells WHERE key = ?", (row["key"],)).fetchone()
        return bool(json.loads(found[0]) == json.loads(row["metrics"]))

    def _keep(self, key: str, arrays: bytes) -> None:
        self._connection.execute("INSERT OR REPLACE INTO outputs (key, arrays) VALUES (?, ?)", (key, arrays))

    def restore(self, record: Mapping[str, Any], arrays: bytes | None) -> None:
        """Take a cell as `records` gives it, which is not there yet."""
        own = {**record, "number": None, "worker": None}
        own["status"] = "waiting" if own["status"] == "running" else own["status"]
        with self._writing():
            names, marks = ", ".join(own), ", ".join(f":{name}" for name in own)
            self._connection.execute(f"INSERT INTO cells ({names}) VALUES ({marks})", own)
            if arrays is not None:
                self._keep(own["key"], arrays)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def status(self) -> dict[Status, int]:
        """How many cells wait, run, are done, have failed."""
        with self._one_line():
            counts = dict(self._connection.execute("SELECT status, count(*) FROM cells GROUP BY status").fetchall())
        return {status: counts.get(status, 0) for status in STATUSES}

    def waiting(self) -> list[Row]:
        """The cells that wait, in the order in which they were added."""
        return list(self.results("waiting"))

    def results(self, status: Status | None = "done") -> Iterator[Row]:
        """The cells of a status (None: all), in the order in which they were added."""
        return (_row(raw) for raw in self._raw(status))

    def records(self, statuses: Iterable[Status] = STATUSES) -> Iterator[tuple[dict[str, Any], bytes | None]]:
        """Cells as they are kept, and their arrays where they are done: for `restore`."""
        for raw in self._raw():
            if raw["status"] in statuses:
                del raw["number"], raw["worker"]
                yield raw, self._arrays(raw["key"]) if raw["status"] == "done" else None

    def statuses(self, keys: Iterable[str]) -> dict[str, Status]:
        """The status of those of the keys that are there."""
        with self._one_line():
            have = dict(self._connection.execute("SELECT key, status FROM cells").fetchall())
        return {key: have[key] for key in keys if key in have}

    def outputs(self, key: str) -> Outputs:
        """What the members said.

        Raises:
            KeyError: a cell that is not done.
        """
        return arrays_of(self._arrays(key))

    def _arrays(self, key: str) -> bytes:
        with self._one_line():
            found = self._connection.execute("SELECT arrays FROM outputs WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise KeyError(f"no result of cell {key}")
        return bytes(found[0])

    def _raw(self, status: Status | None = None) -> list[dict[str, Any]]:
        which = "WHERE status = ? ORDER BY number" if status else "ORDER BY number"
        with self._one_line():
            cursor = self._connection.execute(f"SELECT * FROM cells {which}", (status,) if status else ())
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, values, strict=True)) for values in cursor]

    # ---- SQLite ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; inside another one a part of it."""
        if self._connection.in_transaction:
            yield
            return
        with self._one_line():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # some errors have ended the transaction already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turn what SQLite raises into one line."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                said = "the disk is full: what was written before is safe; make room and run again"
            elif code == sqlite3.SQLITE_IOERR:
                said = "cannot be read or written, perhaps for want of room: what was written before is safe"
            elif code == sqlite3.SQLITE_NOTADB:
                said = "is no store of `deni study`"
            elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                said = "another process has been writing for 30 seconds: wait for it, then run again"
            elif code == sqlite3.SQLITE_CANTOPEN:
                said = "cannot be opened: check that it is a file, and that its folder is writable"
            elif code == sqlite3.SQLITE_READONLY:
                said = "is not writable: check its permissions"
            elif code == sqlite3.SQLITE_CORRUPT:
                said = "is damaged: take a copy of an earlier day, or `deni study export` what can be read"
            else:
                raise
            raise InputError(f"{self.path}: {said} ({error})") from error


def worker_name() -> str:
    """This process: machine, number and start, since numbers come again."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def worker_state(worker: str | None) -> Literal["here", "gone", "elsewhere"]:
    """Whether a worker still runs, as far as this machine can tell: of another machine it cannot."""
    machine, pid, began = split_worker(worker)
    if machine != platform.node():
        return "elsewhere" if machine else "gone"
    try:
        return "here" if f"{psutil.Process(int(pid)).create_time():.2f}" == began else "gone"
    except psutil.NoSuchProcess:
        return "gone"


def split_worker(worker: str | None) -> tuple[str, str, str]:
    """Machine, number and start of `worker_name`; empty for nobody.

    >>> split_worker("node7:1234:1700000000.25")
    ('node7', '1234', '1700000000.25')
    """
    rest, _, began = (worker or "").rpartition(":")
    machine, _, pid = rest.rpartition(":")
    return machine, pid, began


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


def _same(one: Outputs, other: Outputs) -> bool:
    if (one.merged is None) != (other.merged is None):
        return False
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(mine, its) for mine, its in pairs if mine is not None and its is not None)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    """A NumPy number as one of Python, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _row(raw: Mapping[str, Any]) -> Row:
    values: dict[str, Any] = {name: json.loads(raw[name] or "{}") for name in _JSON}
    values["labels"] = tuple(values["labels"])
    values |= {name: raw[name] or "" for name in ("fingerprint", "traceback", "worker", "started", "finished")}
    values |= {name: raw[name] for name in ("key", "pack", "study", "status", "attempts", "added")}
    return Row(cell=Cell.from_json(json.loads(raw["spec"])), decides=json.loads(raw["decides"]), **values)
