"""A store's SQLite file: opened, brought to today's format, written in transactions, with errors of one line."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deni.errors import InputError, InputWarning
from deni.inputs import check_store
from deni.study.store import schema

WAIT = 30  # seconds for another process that writes


class Connection:
    """The SQLite file of a store.

    Args:
        path: the file.
        create: make it if it is not there.

    Raises:
        InputError: a file that is not a store, or one of a later version of deni.
    """

    def __init__(self, path: str | Path, create: bool = False) -> None:
        self.path, self._opened = Path(path), False
        if not create:
            check_store(path)
        if create and not self.path.absolute().parent.is_dir():
            raise InputError(f"{path}: no folder {self.path.absolute().parent}: create it first")
        with self.one_line():
            # Transactions are begun by hand.
            self.sqlite = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            self.sqlite.text_factory = _text
        try:
            with self.one_line():
                self._open()
            self._opened = True
        except BaseException:
            self.sqlite.close()
            raise

    def _open(self) -> None:
        def pragma(name: str) -> int:
            return int(self.sqlite.execute(f"PRAGMA {name}").fetchone()[0])

        tables = self.sqlite.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        found = pragma("user_version")
        empty = not tables and not found and not pragma("application_id")
        if not empty and pragma("application_id") != schema.APPLICATION:
            raise InputError(f"{self.path} is a database of another program, not a store of `deni study`")
        if not empty and found < 1:
            raise InputError(f"{self.path} has format {found}, which no version of deni writes: take another copy")
        if found > schema.FORMAT:
            raise InputError(
                f"{self.path} has format {found}, and this version of deni reads up to {schema.FORMAT}: "
                "install a later version"
            )
        self.sqlite.execute("PRAGMA journal_mode = WAL")
        self.sqlite.execute("PRAGMA synchronous = FULL")  # a cell takes minutes: a wait for the disk is nothing
        if found:
            self._check_tables(found)
        if found < schema.FORMAT:
            with self.writing():
                found = pragma("user_version")  # another process may have been first
                schema.migrate(self.sqlite, found) if found else schema.create(self.sqlite)
            if found:
                self._check_tables(schema.FORMAT)
                warn_of_superseded(self.sqlite, self.path)

    def _check_tables(self, number: int) -> None:
        """Raise InputError where the file has other tables or columns than a store of this format."""
        for table, expected in schema.columns(number).items():
            try:
                found = schema.columns_of(self.sqlite, table)
            except sqlite3.OperationalError as error:  # a table that SQLite cannot make sense of
                raise InputError(f"{self.path}: the table {table} cannot be read ({error}): use a backup") from error
            if found != expected:
                other = sorted(found ^ expected)[0] if found else table
                raise InputError(
                    f"{self.path} is not a store as deni writes it (see {other!r}): it was changed by another program, "
                    "use a backup"
                )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction; inside another one a part of it."""
        if self.sqlite.in_transaction:
            yield
            return
        with self.one_line():
            self.sqlite.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.sqlite.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # some errors have ended the transaction already
                    self.sqlite.execute("ROLLBACK")
                raise

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """Turn what SQLite raises into one line."""
        try:
            yield
        except UnicodeDecodeError as error:  # in what SQLite itself has to say
            raise InputError(f"{self.path}: is damaged: use a backup ({error.reason})") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                reason = "the disk is full: what was written before is safe; free some space and run again"
            elif code == sqlite3.SQLITE_IOERR:
                reason = "cannot be read or written, perhaps because the disk is full: what was written before is safe"
            elif code == sqlite3.SQLITE_NOTADB:
                reason = "is not a store of `deni study`"
            elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                reason = f"another process has been writing for {WAIT} seconds: wait for it, then run again"
            elif code == sqlite3.SQLITE_CANTOPEN:
                reason = "cannot be opened: check that it is a file, and that its folder is writable"
            elif code == sqlite3.SQLITE_READONLY:
                reason = "is not writable: check its permissions"
            elif code == sqlite3.SQLITE_CORRUPT:
                reason = "is damaged: use a backup, or `deni study export` what can be read"
            elif code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_SCHEMA) and not self._opened:
                reason = "is not a store as deni writes it"
            else:
                raise
            raise InputError(f"{self.path}: {reason} ({error})") from error


def _text(data: bytes) -> str:
    """Text of a column; what is no UTF-8 is found when the row is checked."""
    return data.decode("utf-8", "surrogateescape")


def warn_of_superseded(connection: sqlite3.Connection, path: Path) -> None:
    """Say that of some cells there were several results, after their keys were worked out anew."""
    results = "SELECT count(*) FROM superseded WHERE arrays IS NOT NULL"
    if count := connection.execute(results).fetchone()[0]:
        warnings.warn(
            f"{path}: {count} results were of cells that have a newer one, of another version of deni: the newer one "
            "counts, the others are kept in the table superseded",
            InputWarning,
            stacklevel=2,
        )
