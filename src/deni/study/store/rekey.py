"""The cells of an older store or archive under today's keys, computed from what they list as decisive."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from deni.provenance import canonical
from deni.study.keys import key_of, pack_key_of, settled
from deni.study.store.rows import COLUMNS
from deni.study.store.validate import DamagedCellError, check_row

_RANK = ("waiting", "running", "failed", "done")


def rekey(connection: sqlite3.Connection) -> None:
    """Work out the keys of all cells anew, in the transaction that is open.

    Cells that only the version of deni told apart become one: of a result and none, or a failure, the result stays, and
    of several results the newest. The others, with their arrays, go to the table `superseded`, so nothing is lost; of
    cells that wait or run nothing is kept. Cells that are damaged stay as they are.
    """
    cursor = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM cells ORDER BY number")
    names = list(COLUMNS)
    alike: dict[str, list[dict[str, Any]]] = {}
    for values in cursor.fetchall():
        row = dict(zip(names, values, strict=True))
        decided = _settled(row)
        if decided is None:
            continue
        row["settled"] = canonical(decided)
        row["packed"] = pack_key_of(decided, json.loads(row["spec"]).get("sources", {}))
        alike.setdefault(key_of(decided), []).append(row)
    for key, rows in alike.items():
        *others, best = sorted(rows, key=lambda row: (_RANK.index(row["status"]), row["finished"] or ""))
        for row in others:
            _set_aside(connection, key, row, names)
        spec = json.loads(best["spec"])
        spec["factor"] = {name: value for row in rows for name, value in json.loads(row["spec"])["factor"].items()}
        new = (key, best["packed"], canonical(spec), best["settled"])
        if new != (best["key"], best["pack"], best["spec"], best["decides"]):
            what = "key = ?, pack = ?, spec = ?, decides = ?"
            connection.execute(f"UPDATE cells SET {what} WHERE number = ?", (*new, best["number"]))
            connection.execute("UPDATE outputs SET key = ? WHERE key = ?", (key, best["key"]))


def _settled(row: dict[str, Any]) -> dict[str, Any] | None:
    """What decides a cell in today's spelling; None of a damaged one."""
    try:
        check_row(row, rekeyed=False)
        return settled(json.loads(row["decides"]))
    except (DamagedCellError, KeyError, TypeError, AttributeError, ValueError):
        return None


def _set_aside(connection: sqlite3.Connection, key: str, row: dict[str, Any], names: list[str]) -> None:
    """Move a cell out of the way."""
    found = connection.execute("SELECT arrays FROM outputs WHERE key = ?", (row["key"],)).fetchone()
    if row["status"] in ("done", "failed"):
        record = canonical({name: row[name] for name in names})
        values = (key, record, found[0] if found else None)
        connection.execute("INSERT INTO superseded (key, record, arrays) VALUES (?, ?, ?)", values)
    connection.execute("DELETE FROM outputs WHERE key = ?", (row["key"],))
    connection.execute("DELETE FROM cells WHERE number = ?", (row["number"],))
