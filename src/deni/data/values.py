"""What a value of a table is: a text, words, or nothing; and where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deni.errors import short

if TYPE_CHECKING:
    import pandas as pd


def row_of(frame: pd.DataFrame, position: int) -> str:
    """Say where in its file a row is: "line 7" or "record 7"."""
    return f"{frame.index.name} {frame.index[position]}"


def why_no_text(value: Any) -> str | None:
    """The reason why a value is not a text for a model; None if it is one.

    >>> why_no_text(" ")
    'every text must be a string that is not empty'
    """
    if not isinstance(value, str) or not value or value.isspace():
        return "every text must be a string that is not empty"
    if not value.isascii() and has_surrogate(value):
        return "half a surrogate pair is not a character, write the whole one"
    return None


def has_surrogate(text: str) -> bool:
    """Tell whether a string cannot be encoded: JSON can write half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def why_no_words(words: Sequence[Any]) -> str | None:
    """The reason why a list is not a sentence; None if it is one.

    >>> why_no_words(["Anna", ""])
    "word 2 is '': every text must be a string that is not empty"
    """
    if not len(words):
        return "an empty sentence has no words"
    reasons = ((at, word, why_no_text(word)) for at, word in enumerate(words, start=1))
    return next((f"word {at} is {short(word)}: {why}" for at, word, why in reasons if why), None)
