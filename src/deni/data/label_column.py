"""What the labels of each task are, from the values of a column."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd

from deni.data.labels import misplaced
from deni.data.values import and_others, is_null, listed, row_of
from deni.errors import InputError, InputWarning, short


def labels_of(values: list[Any], frame: pd.DataFrame, column: str, source: str, required: bool) -> list[str] | None:
    """Turn labels into stripped strings; where one is empty, raise if labels are required, else read none."""
    labels = []
    empty = None
    for i, value in enumerate(values):
        if isinstance(value, (list, dict, np.ndarray)):
            raise InputError(
                f"{source}, {row_of(frame, i)}, column {column!r}: {short(value)} where one label was expected; "
                "each text has exactly one class"
            )
        label = "" if is_null(value) else str(value).strip()
        if not label and empty is None:
            empty = i
        labels.append(label)
    if empty is None:
        return labels
    where = f"{source}, {row_of(frame, empty)}, column {column!r}: empty label"
    if required:
        raise InputError(f"{where}{and_others(labels.count('') - 1)}; fill it in or drop the row")
    if any(labels):
        _warn(f"{where}, so no labels are read; fill it in to have the predictions scored")
    return None


def numbers_of(values: list[Any], frame: pd.DataFrame, column: str, source: str) -> list[float]:
    """Turn labels into finite numbers."""
    numbers = []
    for i, value in enumerate(values):
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(
                f"{source}, {row_of(frame, i)}, column {column!r}: {short(value)} is no finite number, which --task "
                "regression reads; write one such as 3.5, or drop the row"
            )
        numbers.append(number)
    return numbers


def several_of(values: list[Any], frame: pd.DataFrame, column: str, source: str) -> list[tuple[str, ...]]:
    """Split labels at semicolons; sorted, each once."""
    several = []
    for i, value in enumerate(values):
        if isinstance(value, (list, dict, np.ndarray)):
            raise InputError(
                f"{source}, {row_of(frame, i)}, column {column!r}: {short(value)} where labels separated by ; were "
                'expected; write "a;b"'
            )
        parts = "" if is_null(value) else str(value)
        several.append(tuple(sorted({part.strip() for part in parts.split(";")} - {""})))
    return several


def tags_of(
    values: list[Any], texts: list[Any], frame: pd.DataFrame, words: str, column: str, source: str
) -> list[tuple[str, ...]]:
    """Turn lists or strings into a tag for each word; warn where they are not IOB2."""
    labels: list[tuple[str, ...]] = []
    odd: list[tuple[int, str]] = []
    for i, (value, text) in enumerate(zip(values, texts, strict=True)):
        where, tags = f"{source}, {row_of(frame, i)}, column {column!r}", listed(value)
        if tags is None:
            raise InputError(f"{where}: {short(value)} where a list of tags, or a string of tags, was expected")
        for at, tag in enumerate(tags, start=1):
            if not isinstance(tag, str) or not tag or tag.split() != [tag]:
                raise InputError(
                    f"{where}: tag {at} is {short(tag)}, not a name such as B-PER or O; write names without blanks "
                    "(numbers of Hugging Face's ner_tags have theirs in the features of the dataset)"
                )
        if len(tags) != len(text):
            raise InputError(
                f"{where}: {len(tags)} tags for the {len(text)} words of {words!r}; give each word one tag"
            )
        if (first := misplaced(tags)) is not None:
            odd.append((i, tags[first]))
        labels.append(tuple(tags))
    if odd:
        i, tag = odd[0]
        _warn(
            f"{source}: the tags of {len(odd)} text(s) are not IOB2 (B-TYPE begins an entity, I-TYPE goes on, O is "
            f"outside), such as {short(tag)} at {row_of(frame, i)}; scores of entities take them as seqeval does"
        )
    return labels


def _warn(message: str) -> None:
    warnings.warn(message, InputWarning, stacklevel=3)
