"""The errors a user can cause: one line that says what is wrong and what to do."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """Wrong input from the user; the message is one line, the command line prints it and exits with code 2."""


class SettingError(ValueError):
    """A setting or argument that does not fit; the message is one line, as that of an `InputError`."""


class InputWarning(UserWarning):
    """Input that works but is likely a mistake; the message is one line, the command line prints it and goes on."""


class DeprecatedWarning(InputWarning):
    """A name that works today and that a later version removes; the message says which, and what to use."""


class ArtifactError(InputError):
    """A folder that is no readable artifact: missing, truncated, or written by a later version."""


class TrainingDivergedError(RuntimeError):
    """No run is left to train: every loss became NaN or infinite."""


def short(value: Any, length: int = 60) -> str:
    """Show a value on one line of a message.

    >>> short("a text without an end " * 9, 30)
    "'a text without an end a te..."
    """
    try:
        shown = repr(value).replace("\n", " ")  # a long array's repr has several lines
    except (ValueError, RecursionError):  # more digits than Python writes, or nested too deeply
        shown = f"a value of the type {type(value).__name__}"
    return shown if len(shown) <= length else f"{shown[: length - 3]}..."


def shown(names: Iterable[Any], most: int = 12) -> str:
    """List names on one line, the first few of many.

    >>> shown("abc", most=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(short(name) for name in names[:most]) + more


def did_you_mean(name: str, known: Iterable[str], instead: str | None = None) -> str:
    """The end of a message about a name that does not exist.

    Args:
        instead: where no known name resembles it; None for a list of all.

    >>> did_you_mean("membrs", ["members", "variance"]), did_you_mean("x", ["members", "variance"])
    ('did you mean members?', 'choose from members, variance')
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.65)
    if near:
        return f"did you mean {near[0]}?"
    if instead is not None:
        return instead
    return f"choose from {', '.join(known)}" if known else "there are none"
