"""How far a long computation is: a bar on a terminal, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

from deni.terminal import console, visible

T = TypeVar("T")

EVERY = 5.0  # seconds between two plain lines
SHARE = 0.02  # of the time so far, where that is more: the log of a long run stays short


class ProgressBar:
    """Show on standard error how far a computation is; a context manager that ends the bar.

    On a terminal it is a bar that vanishes at the end. Elsewhere (a log file, a pipe) it is a line each `EVERY`
    seconds, rarer as time goes on, and a last one; what takes less than `EVERY` seconds prints nothing.

    Args:
        what: is being done: `train`.
        total: amount of work; None where it is not known.
        done: how much of it was done before.
        unit: what the work is counted in.
        shown: whether to show anything.
        file: where to; None for standard error.
    """

    def __init__(
        self,
        what: str,
        total: float | None = None,
        done: float = 0,
        unit: str = "texts",
        shown: bool = True,
        file: TextIO | None = None,
    ) -> None:
        self.what, self.total, self.done, self.unit = what, total, done, unit
        self._before, self._began = done, time.monotonic()
        self._said = self._began
        self._file = (file or sys.stderr) if shown else None
        self._live: Any = None
        self._row: Any = None
        if self._file is not None:
            self._show()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        self.update(self.done + amount)

    def update(self, done: float, text: str | None = None, seconds_left: float | None = None) -> None:
        """So much is done, in all.

        Args:
            text: in place of the count.
            seconds_left: None where the rest takes as long as what was done, in proportion.
        """
        self.done = done
        if self._file is None:
            return
        if seconds_left is None and self.total is not None and done > self._before:
            seconds_left = (time.monotonic() - self._began) / (done - self._before) * (self.total - done)
        text = self._count() if text is None else text
        left = "" if seconds_left is None else f"{clock(seconds_left)} left"
        if self._live is not None:
            self._live.update(self._row, completed=done, text=text, left=left)
        else:
            self._print(", ".join(filter(None, (text, left))))

    def say(self, line: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._live is not None:
            self._live.console.print(line, soft_wrap=True)
        elif self._file is not None:
            print(visible(line), file=self._file, flush=True)

    def close(self) -> None:
        """End the bar."""
        if self._live is not None:
            self._live.stop()
        self._live = self._file = None

    def _show(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        screen = console(file=self._file)
        if not screen.is_terminal or screen.is_dumb_terminal:
            return
        texts = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[text]"))
        left = TextColumn("{task.fields[left]}", markup=False)
        columns = (next(texts), BarColumn(20), next(texts), left)
        self._live = Progress(*columns, console=screen, transient=True, redirect_stdout=False)
        text = "" if self.total is None else self._count()
        self._row = self._live.add_task(self.what, total=self.total, completed=self.done, text=text, left="")
        self._live.start()

    def _count(self) -> str:
        return f"{self.done:,g} {self.unit}" if self.total is None else f"{self.done:,g}/{self.total:,g} {self.unit}"

    def _print(self, text: str) -> None:
        now = time.monotonic()
        last = self.total is not None and self.done >= self.total and now - self._began >= EVERY
        if last or now - self._said >= max(EVERY, SHARE * (now - self._began)):
            self._said = now
            print(f"{time.strftime('%H:%M:%S')} {self.what}: {text}", file=self._file, flush=True)


def track(
    things: Iterable[T], what: str, total: int | None = None, done: int = 0, unit: str = "texts", shown: bool = True
) -> Iterator[T]:
    """Give these things one by one, and show how many are done; arguments as of `ProgressBar`."""
    if total is None and isinstance(things, Sized):
        total = len(things) + done
    with ProgressBar(what, total, done, unit, shown) as bar:
        for thing in things:
            yield thing
            bar.advance()


def clock(seconds: float) -> str:
    """A time as a clock shows it.

    >>> clock(47.4), clock(3_723)
    ('0:47', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
