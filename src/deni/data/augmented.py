"""Augmented texts: which were made from which labeled example."""

from __future__ import annotations

from pathlib import Path

from deni.data.files import read_texts
from deni.data.texts import sides
from deni.data.values import row_of, why_no_text
from deni.errors import InputError, short

SEED = "seed"


def read_augmented(path: str | Path) -> dict[str, list[str]]:
    """The augmented texts of each labeled example, in the order of the file, each once.

    Args:
        path: CSV, TSV, JSONL or Parquet, also gzipped, with the columns `seed` (the labeled example) and `text`.

    Raises:
        InputError: a file that cannot be read or lacks a column; the message names it.
    """
    texts = read_texts(path, label_column=None)
    if SEED not in texts.frame.columns:
        has = ", ".join(repr(str(name)) for name in texts.frame.columns)
        raise InputError(f"{texts.source}: no column {SEED!r}, it has {has}; it names the labeled example of each row")
    found: dict[str, dict[str, None]] = {}
    for row, (seed, text) in enumerate(zip(texts.frame[SEED], sides(texts.texts)[0], strict=True)):
        if (why := why_no_text(seed)) is not None:
            at = f"{texts.source}, {row_of(texts.frame, row)}, column {SEED!r}"
            raise InputError(f"{at}: {short(seed)} where a labeled text was expected: {why}")
        found.setdefault(seed, {})[text] = None
    return {seed: list(new_texts) for seed, new_texts in found.items()}
