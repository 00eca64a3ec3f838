"""JSON: an object a line, or one array of objects."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from deni.data.formats.content import decoded
from deni.errors import InputError

ENDLESS = "a number of more digits than Python reads"
JSON_LINE = 'expected one JSON object a line such as {"text": "...", "label": "..."}, or one array of them'


def read_json_lines(data: bytes, source: str) -> pd.DataFrame:
    """Read one JSON object a line; a key that a line lacks becomes NaN."""
    records, lines = [], []
    text = decoded(data, source)
    if (array := _array_of(text)) is not None:
        return pd.DataFrame(array, index=pd.RangeIndex(1, len(array) + 1, name="record"), dtype=object)
    # Not splitlines: a JSON string may hold U+2028 and other separators as they are.
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", ENDLESS)
            raise InputError(f"{source}, line {line}: {JSON_LINE}, but this is not JSON ({reason})") from None
        if not isinstance(record, dict):
            raise InputError(f"{source}, line {line}: {JSON_LINE}, but this is a {type(record).__name__}")
        records.append(record)
        lines.append(line)
    return pd.DataFrame(records, index=pd.Index(lines, dtype=int, name="line"), dtype=object)


def _array_of(text: str) -> list[dict[str, Any]] | None:
    """The objects of a file that is one JSON array of them, None for any other."""
    if text.lstrip()[:1] != "[":
        return None
    try:
        array = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return array if array and all(isinstance(each, dict) for each in array) else None
