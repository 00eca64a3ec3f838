"""JSON in what a language model says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any


def values_in(answer: str, brackets: str) -> Iterator[Any]:
    """The JSON values where one may be: all of the answer, a fence in it, from the first bracket to the last.

    Args:
        brackets: the opening and the closing one, `[]` or `{}`.

    >>> list(values_in('Sure! {"label": "red"}', "{}"))
    [{'label': 'red'}]
    """
    text = spoken(answer)
    fence = re.search(r"```\w*\s(.*?)```", text, flags=re.DOTALL)
    for part in (text, *([fence[1]] if fence else []), text[text.find(brackets[0]) : text.rfind(brackets[1]) + 1]):
        try:
            yield json.loads(part, strict=False)  # not strict: a line break inside a string is clear enough
        except (ValueError, RecursionError):
            continue


def spoken(answer: str) -> str:
    """An answer without what a model thinks aloud in front of it."""
    return re.sub(r"^\s*<think>.*?</think>", "", answer, flags=re.DOTALL)
