"""What reaches a terminal: foreign text that cannot steer it, in characters that it can show."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

from deni.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PIPE_CLOSED = 141  # exit code of a program whose reader has gone, 128 + SIGPIPE
_BIDI = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A)), "\u200e", "\u200f", "\u061c"}
_KEPT = "\n\t"


def visible(text: str) -> str:
    """Text as a terminal may get it: control characters and marks of direction as escapes, line breaks and tabs kept.

    Without escape sequences nobody's text moves the cursor, sets colors or the window's title; without marks of
    direction what follows it stays in order. In JSON the escapes stand for the same characters.

    >>> print(visible("a\\x1b]0;title\\x07 \\u202eb"))
    a\\u001b]0;title\\u0007 \\u202eb
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{ord(each):04x}" if _steers(each) else each for each in text)


def _steers(character: str) -> bool:
    return character in _BIDI or (
        character not in _KEPT and unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    )


def say(message: Any = "", err: bool = False) -> None:
    """Print a line that may have foreign text in it, on standard output or standard error."""
    import click

    with nullcontext() if err else _output():
        click.echo(visible(str(message)), err=err)


def console(**options: Any) -> Console:
    """A `rich` console that takes no text for markup and shows it as `visible` does."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def print(self, *objects: Any, **how: Any) -> None:
            with _output():
                super().print(*objects, **how)

        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(visible(text), **how)  # before the width of a column is known

        def render(self, *arguments: Any, **how: Any) -> Iterable[Segment]:
            for segment in super().render(*arguments, **how):
                yield segment if segment.control else Segment(visible(segment.text), segment.style)

    return Plain(markup=False, emoji=False, highlight=False, **options)


def write_data(text: str) -> None:
    """Write a table to standard output: as `visible` where that is a terminal, else in UTF-8, whatever the locale.

    Raises:
        InputError: standard output is closed.
    """
    if sys.stdout is None:
        raise InputError("standard output is closed: give --output FILE")
    with _output():
        sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()


@contextmanager
def streams() -> Iterator[None]:
    """Around a command: standard output and standard error take any text, and their end is no traceback.

    A file or a pipe gets UTF-8, a terminal what it can show, with replacements. Where whoever reads has gone the
    command ends quietly with `PIPE_CLOSED`; where the device is full it says so and ends with exit code 2.
    """
    for stream in (sys.stdout, sys.stderr):
        _take_any_text(stream)
    with _output():  # outside of commands only help is written
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()


@contextmanager
def _output() -> Iterator[None]:
    """Around what writes to standard output: where that fails the program ends."""
    try:
        yield
    except BrokenPipeError:
        _give_up_output()
        raise SystemExit(PIPE_CLOSED) from None
    except OSError as error:
        _give_up_output()
        say(f"Error: standard output cannot be written ({error.strerror}): redirect it to another place", err=True)
        raise SystemExit(2) from None


def _take_any_text(stream: TextIO | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if stream is None or reconfigure is None:
        return
    if stream.isatty():
        reconfigure(errors="replace")
    else:
        reconfigure(encoding="utf-8", errors="backslashreplace")  # a lone surrogate is no character of UTF-8


def _give_up_output() -> None:
    """What is left in the buffer of standard output goes nowhere, so that Python does not try it again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    finally:
        os.close(nowhere)
