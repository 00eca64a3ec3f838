"""Writing rows to a file: whole, or not at all."""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa

from deni.errors import InputError, short


def check_output(output: str | Path, overwrite: bool) -> None:
    """Check before any work that rows can be written there; `-` is standard output.

    Raises:
        InputError: another suffix, a folder, or a file that exists without `overwrite`.
    """
    if str(output) == "-":
        return
    _format(Path(output))
    if Path(output).exists() and not overwrite:
        raise InputError(f"{output} exists: choose another file or give --overwrite")
    if Path(output).is_dir():
        raise InputError(f"{output} is a folder: name a file in it")


def write_table(frame: pd.DataFrame, output: str | Path) -> None:
    """Write a table as CSV, TSV, JSONL or Parquet, also gzipped, by the suffix; `-` is CSV on standard output.

    Raises:
        InputError: a file that cannot be written, or columns that the format cannot hold.
    """
    if str(output) == "-":
        frame.to_csv(sys.stdout, index=False)
        return
    path = Path(output)
    suffix = _format(path)
    temporary = None
    try:
        data = _bytes_of(frame, suffix)
        if path.suffix == ".gz":
            data = gzip.compress(data, mtime=0)  # without the time: equal tables are equal files
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except (pa.ArrowException, OverflowError) as error:
        first = short(str(error).splitlines()[0])
        raise InputError(f"{path}: {suffix} cannot hold these columns ({first}): write .csv instead") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{path} cannot be written ({why}): free space or choose another") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _bytes_of(frame: pd.DataFrame, suffix: str) -> bytes:
    if suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if suffix == ".jsonl":
        return frame.to_json(orient="records", lines=True, force_ascii=False).encode()
    return frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",").encode()


def _format(path: Path) -> str:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (".csv", ".tsv", ".jsonl", ".parquet"):
        raise InputError(f"{path}: unknown suffix {suffix!r}, write .csv, .tsv, .jsonl or .parquet (.gz works, too)")
    return suffix
