"""The formats of a file, told by its suffix: each makes of the content a table of all columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from deni.data.formats.conll import read_conll
from deni.data.formats.content import bytes_in, decompressed
from deni.data.formats.delimited import read_csv, read_tsv
from deni.data.formats.json_lines import read_json_lines
from deni.data.formats.parquet import read_parquet
from deni.errors import InputError
from deni.outputs import CONLL

READERS: dict[str, Callable[[bytes, str], pd.DataFrame]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".parquet": read_parquet,
    CONLL: read_conll,
}


def is_conll(path: str | Path) -> bool:
    """Whether a file is in CoNLL format, by its name."""
    return str(path).lower().removesuffix(".gz").endswith(CONLL)


def frame_of(path: str | Path, source: str, suffix: str | None, text_column: str) -> pd.DataFrame:
    """Read all columns of a file."""
    ending = (suffix or (".csv" if str(path) == "-" else Path(path).name)).lower()
    plain = ending.removesuffix(".gz")
    reader = next((reader for known, reader in READERS.items() if plain.endswith(known)), None)
    data = bytes_in(path)
    if reader is None:
        raise InputError(
            f"{source}: unknown file type {Path('x' + plain).suffix!r}; expected {', '.join(READERS)}, "
            "each also with .gz: convert or rename it"
        )
    if plain != ending:
        data = decompressed(data, source)
    if not data.strip():
        raise InputError(f"{source}: the file is empty; expected a column {text_column!r} and at least one text")
    return reader(data, source)
