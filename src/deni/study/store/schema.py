"""The tables of a store, and how a store of an older format becomes one of today's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from deni.study.store.rekey import rekey

APPLICATION = 0x64656E69  # "deni": tells a store from another program's SQLite file
FORMAT = 3

# Results are kept apart from rows, so that a look at the rows does not read them.
TABLES = """
CREATE TABLE cells (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    pack TEXT NOT NULL,
    study TEXT NOT NULL,
    spec TEXT NOT NULL,
    decides TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    labels TEXT,
    fingerprint TEXT,
    metrics TEXT,
    cost TEXT,
    diagnostics TEXT,
    environment TEXT,
    traceback TEXT,
    added TEXT NOT NULL,
    started TEXT,
    finished TEXT
);
CREATE INDEX cells_by_status ON cells (status, number);
CREATE TABLE outputs (
    key TEXT PRIMARY KEY REFERENCES cells (key),
    arrays BLOB NOT NULL
);
"""

# Results that a newer one of the same cell replaced when keys were worked out anew: `record` is the row as it was.
SUPERSEDED = """
CREATE TABLE superseded (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    record TEXT NOT NULL,
    arrays BLOB
);
"""

# Format 1 kept the results in the row, and knew neither packs, nor studies, nor who works on a cell.
_FROM_1 = """
ALTER TABLE cells RENAME TO old;
{tables}
INSERT INTO cells (number, key, pack, study, spec, decides, status, attempts, labels, fingerprint, metrics, cost,
                   diagnostics, environment, traceback, added, started, finished)
    SELECT number, key, key, '', spec, decides, status, attempts, labels, fingerprint, metrics, cost,
           diagnostics, environment, traceback, added, started, finished FROM old;
INSERT INTO outputs (key, arrays) SELECT key, arrays FROM old WHERE arrays IS NOT NULL;
DROP TABLE old;
"""


def run(connection: sqlite3.Connection, script: str) -> None:
    """Run statements inside the transaction that is open (`executescript` would commit it)."""
    for statement in script.split(";"):
        if statement.strip():
            connection.execute(statement)


def _from_1(connection: sqlite3.Connection) -> None:
    run(connection, _FROM_1.format(tables=TABLES))


def _from_2(connection: sqlite3.Connection) -> None:
    """Format 2 had the version of deni in its keys, and settings that decide nothing."""
    run(connection, SUPERSEDED)
    rekey(connection)


# Format -> what makes it the next one.
STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _from_1, 2: _from_2}


_FORMAT_1 = """
CREATE TABLE cells (
    number, key, spec, decides, status, attempts, arrays, labels, fingerprint, metrics, cost, diagnostics, environment,
    traceback, added, started, finished
);
"""


def columns(number: int) -> dict[str, set[str]]:
    """The names of the columns of each table in a store of this format."""
    connection = sqlite3.connect(":memory:")
    try:
        run(connection, _FORMAT_1 if number == 1 else TABLES + (SUPERSEDED if number > 2 else ""))
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: columns_of(connection, name) for name in names}
    finally:
        connection.close()


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """The names of the columns of a table, empty where there is none; views are none."""
    kinds = connection.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    if kinds != [("table",)]:
        return set()
    return {str(name) for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, in the transaction that is open."""
    run(connection, TABLES + SUPERSEDED)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def migrate(connection: sqlite3.Connection, found: int) -> None:
    """Bring a store from the format `found` to today's, in the transaction that is open."""
    for number in range(found, FORMAT):
        STEPS[number](connection)
    connection.execute(f"PRAGMA user_version = {FORMAT}")
