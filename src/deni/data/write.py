"""Writing rows to a file: whole, or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa

from deni.errors import InputError, short
from deni.outputs import CONLL, format_of, write_bytes
from deni.terminal import write_data

_BREAKS = re.compile(r"[ \t\r\n]")  # where a line of a CoNLL file is split


def write_table(frame: pd.DataFrame, output: str | Path, overwrite: bool = False, kept: str = "") -> None:
    """Write a table as CSV, TSV, JSONL or Parquet, also gzipped, by the suffix; `-` is CSV on standard output.

    As CoNLL it is written where its columns are a list of words and lists with as many tags.

    Args:
        overwrite, kept: see `deni.outputs.write_bytes`.

    Raises:
        InputError: a file that cannot be written, or columns that the format cannot hold.
    """
    if str(output) == "-":
        write_data(_delimited(frame, ","))
        return
    path, suffix = Path(output), format_of(output)
    data = _conll(frame, path) if suffix == CONLL else _converted(frame, path, suffix)
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # without the time: equal tables are equal files
    write_bytes(path, data, overwrite, kept)


def check_table(frame: pd.DataFrame, output: str | Path) -> None:
    """Raise InputError where a file of this suffix cannot hold these columns: before work, not after it."""
    if str(output) != "-" and format_of(output) != CONLL:
        _converted(frame, Path(output), format_of(output))


def _converted(frame: pd.DataFrame, path: Path, suffix: str) -> bytes:
    try:
        return bytes_of(frame, suffix)
    except UnicodeEncodeError as error:
        broken = ascii(error.object[error.start : error.end])
        raise InputError(
            f"{path}: no file can hold {broken}, half a surrogate pair: write the whole character, or drop the column"
        ) from error
    except (pa.ArrowException, OverflowError, ValueError) as error:  # of what they cannot convert
        first = short((str(error).splitlines() or [type(error).__name__])[0])
        raise InputError(f"{path}: {suffix} cannot hold these columns ({first}): write .csv instead") from error


def bytes_of(frame: pd.DataFrame, suffix: str) -> bytes:
    """A table as a file of this suffix without `.gz`: `.csv`, `.tsv`, `.jsonl` or `.parquet`."""
    if suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if suffix == ".jsonl":
        return frame.to_json(orient="records", lines=True, force_ascii=False).encode()
    return _delimited(frame, "\t" if suffix == ".tsv" else ",").encode()


def _delimited(frame: pd.DataFrame, separator: str) -> str:
    """CSV or TSV; every text is quoted where one has a carriage return, which the csv module leaves bare."""
    text = frame.to_csv(index=False, sep=separator, lineterminator="\n")
    if "\r" not in text:
        return text
    return frame.to_csv(index=False, sep=separator, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)


def _conll(frame: pd.DataFrame, path: Path) -> bytes:
    """A line for each word, and an empty one after each sentence."""
    lines: list[str] = []
    for row in frame.to_numpy():
        for line in zip(*row, strict=True):
            if broken := next((part for part in line if _BREAKS.search(part)), None):
                raise InputError(f"{path}: .conll cannot hold the word {short(broken)} with a blank: write .jsonl")
            lines.append(" ".join(line))
        lines.append("")
    return "".join(f"{line}\n" for line in lines).encode()
