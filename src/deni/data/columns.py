"""Texts and labels from the columns of a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence
from typing import Any

import pandas as pd

from deni.data.conversations import as_prompts
from deni.data.texts import Text, Texts
from deni.data.values import has_surrogate, row_of, why_no_words
from deni.errors import InputError, short, shown
from deni.tasks import DEFAULT, find_task
from deni.tasks.column import Column, and_others, is_null, listed
from deni.tasks.written_lists import read_lists

TEXT_FLAG, PAIR_FLAG, LABEL_FLAG = "--text-column", "--text-pair-column", "--label-column"


def texts_of(
    frame: pd.DataFrame,
    source: str,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str | None = "label",
    labels_required: bool = True,
    task: str = DEFAULT,
    label_order: Sequence[str] = (),
    on_blank: Callable[[int], None] | None = None,
) -> Texts:
    """Check texts and labels of a table, as `read_texts` does it; the index of the table names its rows."""
    flags = {TEXT_FLAG: text_column, PAIR_FLAG: text_pair_column, LABEL_FLAG: label_column}
    for (flag, name), (other, second) in itertools.combinations(flags.items(), 2):
        if name is not None and name == second:
            raise InputError(f"{flag} and {other} both name {name!r}: name two different columns")
    chosen = find_task(task)
    if chosen.of_words and text_pair_column is not None:
        raise InputError(f"--task {task} has one text a row, not pairs: omit {PAIR_FLAG}")
    if chosen.generates:
        if text_pair_column is not None:
            raise InputError(f"--task {task} has one prompt a row, not pairs: omit {PAIR_FLAG}")
        wanted = label_column if labels_required or label_column in frame.columns else None
        frame = as_prompts(frame, source, text_column, wanted)
    texts = _column(frame, text_column, TEXT_FLAG, source).tolist()
    if on_blank is not None:
        frame = _without_blanks(frame, [text_column, *([text_pair_column] if text_pair_column else [])], source)
        on_blank(len(texts) - len(frame))
        texts = frame[text_column].tolist()
    if chosen.of_words:
        texts = _words_of(texts, frame, text_column, source)
    else:
        _check_texts(texts, frame, text_column, TEXT_FLAG, source)
    if text_pair_column is not None:
        seconds = _column(frame, text_pair_column, PAIR_FLAG, source).tolist()
        _check_texts(seconds, frame, text_pair_column, PAIR_FLAG, source)
        texts = list(zip(texts, seconds, strict=True))
    labels: list[Any] | None = None
    order: tuple[str, ...] = ()
    if label_column is not None and (labels_required or label_column in frame.columns):
        values = _column(frame, label_column, LABEL_FLAG, source).tolist()
        column = Column(
            label_column,
            source,
            values,
            lambda row: row_of(frame, row),
            texts=texts,
            text_name=text_column,
            required=labels_required,
            order=label_order,
        )
        labels = chosen.parse(column)
        order = chosen.order_of(column) if labels is not None else ()
    return Texts(texts, labels, source, frame, task, order)


def _column(frame: pd.DataFrame, name: str, flag: str, source: str) -> pd.Series:
    """Choose the column of this name; the error for a missing one lists the others."""
    found = int((frame.columns == name).sum())
    if found == 0:
        raise InputError(
            f"{source}: no column {name!r} among {shown(frame.columns)}; "
            f"name the right one with {flag} (a CSV or TSV needs a header line)"
        )
    if found > 1:
        raise InputError(f"{source}: {found} columns are named {name!r}; rename all but one")
    if frame.empty:
        raise InputError(f"{source}: no rows below the header; expected at least one text in column {name!r}")
    return frame[name]


def _without_blanks(frame: pd.DataFrame, columns: Sequence[str], source: str) -> pd.DataFrame:
    """The rows that have something in each of these columns."""
    blank = pd.Series(False, index=frame.index)
    for name in columns:
        values = _column(frame, name, TEXT_FLAG if name == columns[0] else PAIR_FLAG, source)
        blank |= values.map(_is_blank).astype(bool)
    if blank.all():
        raise InputError(f"{source}: all {len(frame)} texts are empty; name another {TEXT_FLAG}")
    return frame[~blank]


def _is_blank(value: Any) -> bool:
    """Whether a value of a column of texts has nothing in it."""
    return is_null(value) or (isinstance(value, str | list | tuple) and not "".join(map(str, value)).strip())


def _check_texts(texts: list[Any], frame: pd.DataFrame, column: str, flag: str, source: str) -> None:
    """Raise unless every text is a string with something in it."""
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            what = "no text (null)" if is_null(text) else f"a {type(text).__name__} ({short(text)})"
            raise InputError(
                f"{source}, {row_of(frame, i)}, column {column!r}: {what} where a string was expected; "
                f"fill it in, drop the row or name another {flag}"
            )
        if not text or text.isspace():
            others = sum(isinstance(each, str) and not each.strip() for each in texts) - 1
            raise InputError(
                f"{source}, {row_of(frame, i)}, column {column!r}: empty text{and_others(others)}; "
                "fill it in or drop the row"
            )
        if not text.isascii() and has_surrogate(text):
            raise InputError(
                f"{source}, {row_of(frame, i)}, column {column!r}: half a surrogate pair (such as \\ud83d) is not a "
                "character; write the whole character"
            )


def _words_of(values: list[Any], frame: pd.DataFrame, column: str, source: str) -> list[Text]:
    """Turn lists or strings into words."""
    texts: list[Text] = []
    written = read_lists(values, lambda row: f"{source}, {row_of(frame, row)}, column {column!r}")
    for i, value in enumerate(written or values):
        words = listed(value)
        if why := "words are needed" if words is None else why_no_words(words):
            raise InputError(
                f"{source}, {row_of(frame, i)}, column {column!r}: {short(value)} where a list of words, or a string "
                f"of words, was expected: {why}; fill it in, drop the row or name another {TEXT_FLAG}"
            )
        texts.append(tuple(words))  # type: ignore[arg-type]
    return texts


def given_name(name: str, taken: Container[Any]) -> str:
    """What a column of a user's file is called where the name is wanted for another one.

    >>> given_name("label", ["text", "label"]), given_name("label", ["label", "given_label"])
    ('given_label', 'given_given_label')
    """
    while name in taken:
        name = f"given_{name}"
    return name
