"""CSV and TSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd

from deni.data.formats.content import decoded
from deni.errors import InputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_SEPARATOR_LINE = re.compile(r'[\r\n]*"?sep=([^\r\n])"?[^\S\r\n]*(?=[\r\n]|\Z)', re.IGNORECASE)  # Excel's first line


def _read_delimited(text: str, source: str, delimiter: str) -> pd.DataFrame:
    """Read CSV or TSV.

    With the csv module and not with pandas, which pads short rows, takes long ones for an index and loses line numbers.
    """
    records: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        with _fields_of_any_length():
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            for record in reader:
                if records or record:  # the header is the first line that is not blank
                    records.append(record)
                    lines.append(line)
                line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{source}, line {line}: {error}; look for a quote that is never closed: "
            'a field with a quote in it is written as "say ""hi"""'
        ) from None
    if not records:  # a byte order mark, and nothing else
        raise InputError(f"{source}: the file is empty; expected a header line and at least one text")
    while not records[-1]:  # blank lines at the end
        records.pop(), lines.pop()
    header = records[0]
    # A blank line is nobody's row, except where the text is the only column: there it is an empty text.
    kept = [i for i in range(1, len(records)) if records[i] or len(header) == 1]
    rows = [records[i] or [""] for i in kept]
    index = pd.Index([lines[i] for i in kept], dtype=int, name="line")
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if ragged is not None:
        have, name = len(rows[ragged]), DELIMITERS.get(delimiter, delimiter)
        cure = f"put double quotes around a text that contains a {name}" if have > len(header) else "fill in the others"
        raise InputError(
            f"{source}, line {index[ragged]}: {have} field{'s' * (have > 1)}, separated by {name}s, where the header "
            f"has {len(header)}; {cure}"
        )
    return pd.DataFrame(rows, index=index, columns=pd.Index(header, dtype=object), dtype=object)


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the limit of the csv module, 131,072 characters a field, which is one for the whole process."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def read_csv(data: bytes, source: str) -> pd.DataFrame:
    """Read CSV; where the header has no comma but semicolons, tabs or pipes, they separate.

    A first line `sep=;`, as Excel writes and reads it, names what separates.
    """
    text, delimiter = _without_separator_line(decoded(data, source))
    if delimiter is not None:
        return _read_delimited(text, source, delimiter)
    first = re.search(r"[^\r\n]+", text)
    header = re.sub('"[^"]*"', "", first[0]) if first else ""
    return _read_delimited(text, source, next((each for each in DELIMITERS if each in header), ","))


def read_tsv(data: bytes, source: str) -> pd.DataFrame:
    """Read TSV."""
    text, delimiter = _without_separator_line(decoded(data, source))
    return _read_delimited(text, source, delimiter or "\t")


def _without_separator_line(text: str) -> tuple[str, str | None]:
    """The text with a blank line in place of `sep=;`, which is counted as any other, and what separates; else None."""
    found = _SEPARATOR_LINE.match(text)
    return (text, None) if found is None else (text[: found.end()].count("\n") * "\n" + text[found.end() :], found[1])
