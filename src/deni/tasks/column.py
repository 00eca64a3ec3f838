"""A column of labels as a task reads it: its values, and where each of them is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from deni.errors import InputWarning
from deni.tasks.written_lists import read_lists


@dataclass(frozen=True)
class Column:
    """The labels of a table.

    Args:
        name: of the column.
        source: the file, for messages.
        values: one a row, as the table has them.
        row: names the place of a row, such as "line 7".
        texts: what is labeled, one a row; words are a tuple.
        text_name: the column of the texts.
        required: whether an empty label is an error; otherwise no labels are read then.
        order: the classes in their order, where the user gives one.
    """

    name: str
    source: str
    values: Sequence[Any]
    row: Callable[[int], str]
    texts: Sequence[Any] = ()
    text_name: str = "text"
    required: bool = True
    order: Sequence[str] = ()

    def where(self, at: int) -> str:
        """The place of a value, for a message."""
        return f"{self.source}, {self.row(at)}, column {self.name!r}"

    def lists(self) -> list[Any] | None:
        """The values with lists that are written as text, see `read_lists`; None where they are not written so."""
        return read_lists(self.values, self.where)

    @cached_property
    def has_integers(self) -> bool:
        """Whether a value, or one in a list, is an integer; where others are floats, 1 and 1.0 are the same label."""
        several = (each for value in self.values for each in (value if is_list(value) else (value,)))
        return any(isinstance(each, int | np.integer) and not isinstance(each, bool | np.bool_) for each in several)

    def name_of(self, value: Any) -> str:
        """A value as the name of a class."""
        if self.has_integers and isinstance(value, float | np.floating) and float(value).is_integer():
            value = int(value)
        return str(value).strip()


def listed(value: Any) -> list[Any] | None:
    """A list as it is, a string split at white space; None for anything else."""
    if isinstance(value, str):
        return value.split()
    return list(value) if is_list(value) else None


def is_list(value: Any) -> bool:
    """Whether a value of a table holds several."""
    return isinstance(value, list | tuple | np.ndarray)


def is_null(value: Any) -> bool:
    """Tell None, NaN and NA."""
    import pandas as pd

    return bool(pd.isna(value)) if pd.api.types.is_scalar(value) else False


def and_others(count: int) -> str:
    """How many more rows have the same fault."""
    return f" (and {count} more such row{'s' if count > 1 else ''})" if count else ""


def warn(message: str) -> None:
    """Warn whoever called the reader."""
    warnings.warn(message, InputWarning, stacklevel=4)
