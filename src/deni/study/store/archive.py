"""A store as one small file that a repository can hold: the vote of each cell in place of every member."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deni.data.write import bytes_of
from deni.errors import InputError
from deni.outputs import check_file, write_bytes
from deni.study.keys import task_of
from deni.study.store.database import Store
from deni.study.store.rows import COLUMNS, arrays_of, pack_arrays
from deni.study.store.validate import (
    DamagedCellError,
    check_arrays,
    check_columns,
    check_row,
    labels_of,
    warn_of_damaged,
)
from deni.study.vote import voter
from deni.tasks import TASKS

SUFFIX = ".parquet"


def write_archive(store: Store, output: str | Path, overwrite: bool = False) -> int:
    """Write the cells that are done or have failed as a Parquet file, a row a cell, whole or not at all.

    It has all that the store has but the members: of them the vote is kept, in half precision where a text has one
    label; what other votes would have scored is among the metrics. `deni report` and `deni study merge` read it.

    Returns:
        How many cells.

    Raises:
        InputError: nothing to write, or a file that is there or cannot be written.
    """
    output = Path(output)
    if output.suffix != SUFFIX:
        raise InputError(f"{output}: an archive is a Parquet file: call it {output.stem}{SUFFIX}")
    check_file(output, overwrite, [store.path], kind="archive")
    rows = [
        {**record, "arrays": None if arrays is None else _votes_alone(json.loads(record["decides"]), arrays)}
        for record, arrays in store.records(("done", "failed"))
    ]
    if not rows:
        raise InputError(f"{store.path}: no cell is done, so there is nothing to archive")
    write_bytes(output, bytes_of(pd.DataFrame(rows), SUFFIX), overwrite, kept="the archive is")
    return len(rows)


def _votes_alone(decided: Mapping[str, Any], arrays: bytes) -> bytes:
    outputs = arrays_of(arrays)
    vote = voter(decided)(outputs.log_probs)  # (N, C)
    kept = _half(vote) if TASKS[task_of(decided)].one_class else vote
    return pack_arrays(outputs._replace(log_probs=kept[:, None], merged=None))


def _half(vote: np.ndarray) -> np.ndarray:
    """In half precision, with the same class on top: rounding makes ties."""
    kept, chosen = vote.astype(np.float16), vote.argmax(-1)
    rows = np.flatnonzero(kept.argmax(-1) != chosen)
    kept[rows, chosen[rows]] = np.nextafter(kept[rows].max(-1), np.float16(np.inf))
    return kept


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Store]:
    """A store, or an archive, its cells under the keys of today, as a store that is gone afterwards.

    Raises:
        InputError: a file that is neither.
    """
    if Path(path).suffix != SUFFIX:
        with Store(path) as store:
            yield store
        return
    with tempfile.TemporaryDirectory(prefix="deni.") as folder:
        with Store(Path(folder) / f"{Path(path).stem}.db", create=True) as store:
            _take(store, _read(Path(path)), path)
            store.rekey(Path(path))
            yield store


def _take(store: Store, records: Iterable[dict[str, Any]], path: str | Path) -> None:
    """Put the rows of an archive into a store; those that are damaged are left out, with a warning."""
    damaged = []
    for at, raw in enumerate(records, 1):
        arrays = raw.pop("arrays")
        try:
            check_row({**dict.fromkeys(COLUMNS), **raw, "number": at}, rekeyed=False)
            if raw["status"] == "done":
                check_arrays(arrays, labels_of(raw))
            store.restore(raw, arrays if raw["status"] == "done" else None)
        except DamagedCellError as error:
            damaged.append(str(error) if str(error).startswith("row ") else f"row {at}: {error}")
        except sqlite3.IntegrityError:
            damaged.append(f"row {at}: its key was there before")
    warn_of_damaged(damaged, str(path))


def _read(path: Path) -> list[dict[str, Any]]:
    """The rows of an archive."""
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        names = table.column_names
        if len(set(names)) == len(names):
            rows = zip(*(_values(table.column(name)) for name in names), strict=True)
            records = [dict(zip(names, values, strict=True)) for values in rows]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except Exception as error:  # what a broken Parquet file makes pyarrow raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: no Parquet file that can be read ({first})") from error
    if missing := {"key", "spec", "decides", "arrays"} - set(names):
        raise InputError(f"{path} has no {min(missing)}: it is not an archive of `deni study export --archive`")
    check_columns([*(name for name in names if name != "arrays"), "number", "worker"], str(path))
    if len(set(names)) < len(names):
        raise InputError(f"{path} has a column twice: it is not an archive of `deni study export --archive`")
    return records


def _values(column: Any) -> list[Any]:
    """The values of a column; what is no UTF-8 is found when the row is checked."""
    import pyarrow as pa

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return list(column.to_pylist())
    data = column.cast(pa.large_binary()).to_pylist()
    return [None if each is None else each.decode("utf-8", "surrogateescape") for each in data]
