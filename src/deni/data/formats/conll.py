"""CoNLL: a word and its tag on each line, an empty line after each sentence."""

from __future__ import annotations

import re

import pandas as pd

from deni.data.formats.content import decoded
from deni.errors import InputError


def read_conll(data: bytes, source: str) -> pd.DataFrame:
    """Read sentences into the columns `text` and, where the lines have more than one column, `label`."""
    rows, starts = [], []
    words: list[list[str]] = []  # the first and the last column of each line of the sentence
    width = 0
    for number, line in enumerate([*decoded(data, source).split("\n"), ""], start=1):
        line = line.strip(" \t\r")
        if line and not line.startswith("-DOCSTART-"):
            fields = [field.strip(" ") for field in re.split(r"\t+" if "\t" in line else " +", line)]
            width = width or len(fields)
            if len(fields) != width:
                raise InputError(
                    f"{source}, line {number}: {len(fields)} columns where the lines above have {width}; "
                    "write a word and its tag on each line, and an empty line between sentences"
                )
            if not words:
                starts.append(number)
            words.append([fields[0], fields[-1]])
        elif words:
            rows.append([list(column) for column in zip(*words, strict=True)])
            words = []
    frame = pd.DataFrame({"text": [row[0] for row in rows]}, index=pd.Index(starts, dtype=int, name="line"))
    return frame.assign(label=[row[1] for row in rows]) if width > 1 else frame
