"""Parquet."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from deni.errors import InputError


def read_parquet(data: bytes, source: str) -> pd.DataFrame:
    """Read a Parquet file; its records are counted from 1."""
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{source}: no readable Parquet file ({reason}); write, copy or download it again") from None
    frame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return frame.set_axis(pd.RangeIndex(1, len(frame) + 1, name="record"))
