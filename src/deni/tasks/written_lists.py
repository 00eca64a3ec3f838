"""Lists that stand in a field of text, as pandas writes them into a CSV: "['a', 'b']"."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from deni.errors import InputError, short

# NumPy prints arrays without commas, and Python joins neighboring strings: "['a' 'b']" would be read as one label, ab.
_WITHOUT_COMMAS = re.compile(r"""\[.*(['"]\s+['"]|\d\.?\s+-?\d).*\]""", re.DOTALL)


def read_lists(values: Sequence[Any], where: Callable[[int], str]) -> list[Any] | None:
    """The values with their lists in place of the strings; None where they are not written so.

    A column is written so if every string in it that is not blank is a list; one that is a list, such as `[1]`, beside
    others that are none is a name. Blank strings stay, and values that are not strings.

    Args:
        values: of a column.
        where: names the place of a value, for messages.

    Raises:
        InputError: lists of quoted names on some rows only, or without commas.

    >>> read_lists(["['a', 'b']", "", "[]"], str)
    [['a', 'b'], '', []]
    >>> read_lists(["[b]", "[/b]"], str), read_lists(["[1]", "x"], str)
    (None, None)
    """
    strings = {at: value.strip() for at, value in enumerate(values) if isinstance(value, str) and value.strip()}
    bracketed = [at for at, text in strings.items() if text[0] == "[" and text[-1] == "]"]
    lists = {at: _list_in(strings[at]) for at in bracketed}
    if not lists or (len(bracketed) < len(strings) and not any(map(_is_of_names, lists.values()))):
        return None
    for at in bracketed:
        if _WITHOUT_COMMAS.fullmatch(strings[at]) and (lists[at] is None or _joins_strings(strings[at])):
            raise InputError(
                f"{where(at)}: {short(strings[at])} is a list without commas, as NumPy prints arrays; write lists, "
                "such as \"['a', 'b']\" (array.tolist() makes one)"
            )
    if len(bracketed) == len(strings) and None not in lists.values():
        return [lists.get(at, value) for at, value in enumerate(values)]
    if not any(map(_is_of_names, lists.values())):
        return None
    odd = next(at for at in strings if lists.get(at) is None)
    first = next(at for at in bracketed if _is_of_names(lists[at]))
    raise InputError(
        f"{where(odd)}: {short(values[odd])} is not a list, and other rows have lists such as {short(values[first])}: "
        "write all in one way"
    )


def _list_in(text: str) -> list[Any] | None:
    """A list of strings and numbers, in JSON or Python."""
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(each, str | int | float) for each in found):
            return found
    return None


def _is_of_names(found: list[Any] | None) -> bool:
    """Whether a list has a quoted name in it, which nobody's class is called."""
    return bool(found) and any(isinstance(each, str) for each in found or ())


def _joins_strings(text: str) -> bool:
    """Whether neighboring strings without a comma were joined."""
    outside = re.sub(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", "S", text, flags=re.DOTALL)
    return re.search(r"S\s*S", outside) is not None
