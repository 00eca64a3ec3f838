"""Parquet."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deni.errors import InputError

_UNREADABLE = (pa.ArrowException, ValueError, OverflowError, NotImplementedError, KeyError)
BEYOND = "it has values that Python cannot represent, such as a date beyond the year 9999"
CURE = "correct the column, or write the file without it"


def read_parquet(data: bytes, source: str) -> pd.DataFrame:
    """Read a Parquet file; its records are counted from 1."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{source}: no readable Parquet file ({reason}); write, copy or download it again") from None
    for at, name in enumerate(table.column_names):
        column = _within_years(table.column(at))
        why = _why_unreadable(column)
        if why is None and (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
            try:
                column = column.cast(pa.string())  # bytes are text, as in other files
            except pa.ArrowException:
                why = "it has bytes that are not UTF-8"
        if why is not None:
            raise InputError(f"{source}, column {name!r}: {why}; {CURE}")
        table = table.set_column(at, name, column)
    try:
        frame = _as_frame(table)
    except _UNREADABLE:
        name = next((name for at, name in enumerate(table.column_names) if not _is_readable(table.select([at]))), "")
        raise InputError(f"{source}, column {name!r}: {BEYOND}; {CURE}") from None
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="record"))


def _as_frame(table: pa.Table) -> pd.DataFrame:
    return table.to_pandas(ignore_metadata=True, integer_object_nulls=True)


def _is_readable(table: pa.Table) -> bool:
    try:
        _as_frame(table)
    except _UNREADABLE:
        return False
    return True


def _within_years(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Dates as strings where one is beyond the years of Python, 1 to 9999; any other column as it is."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        plain = column.cast(pa.timestamp(kind.unit))
    elif pa.types.is_date(kind):
        plain = column
    else:
        return column
    years = pc.min_max(pc.year(plain)).as_py()
    return column if years["min"] is None or 1 <= years["min"] <= years["max"] <= 9999 else plain.cast(pa.string())


def _why_unreadable(column: pa.ChunkedArray) -> str | None:
    """The reason why a column cannot become Python's objects; None if it can."""
    try:
        column.validate(full=True)
    except pa.ArrowException:
        return "its values are damaged (strings that are not UTF-8, or the like)"
    try:
        if pa.types.is_nested(column.type):
            column.to_pylist()
    except _UNREADABLE:
        return BEYOND
    return None
