"""The finished parts of an unfinished file, one JSON line each, safe from a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deni.errors import InputError, short
from deni.outputs import unfinished_name
from deni.provenance import depth
from deni.written import written_bytes

_DEEPEST = 100  # levels of nested JSON


def journal_of(output: str | Path) -> Path:
    """The journal of an unfinished file, next to it."""
    return Path(output).with_name(f"{Path(output).name}.partial.jsonl")


class Journal:
    """The finished parts of an unfinished file; each is on the disk when `add` returns.

    Args:
        output: the unfinished file; the journal is next to it.
        run: JSON values of all that decides the parts. What another run left is refused.

    Raises:
        InputError: a journal of another run, or one that cannot be read; the message says what differs and what to do.
    """

    def __init__(self, output: str | Path, run: Mapping[str, Any]) -> None:
        self.path = journal_of(output)
        self.run = json.loads(json.dumps(run))
        self.parts: list[dict[str, Any]] = []
        lines = self._whole_lines()
        if len(lines) > 1:  # where nothing is finished, nothing is lost
            self._check(lines[0])
            self.parts = lines[1:]

    def begin(self) -> None:
        """Be ready for further parts; what a kill left of a line goes away."""
        temporary = unfinished_name(self.path.parent, ".jsonl")
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                _write(file, [self.run, *self.parts])
            temporary.replace(self.path)

    def add(self, part: dict[str, Any]) -> None:
        """Write down one more finished part."""
        with self._writing(), self.path.open("ab") as file:
            _write(file, [part])
        self.parts.append(part)

    def remove(self) -> None:
        """The file is finished, or nothing of it is."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self.path.unlink()

    def _whole_lines(self) -> list[dict[str, Any]]:
        try:
            *whole, _ = written_bytes(self.path).split(b"\n")
        except (FileNotFoundError, NotADirectoryError):  # the latter is told where it is written
            return []
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read ({error.strerror}): check it, or choose another --output"
            ) from error
        found = []
        for number, line in enumerate(whole, start=1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                if number < len(whole):
                    raise self.wrong("no JSON", number) from None
                continue
            if not isinstance(value, dict):
                raise self.wrong(f"{short(value)} where an object was expected", number)
            if depth(value, _DEEPEST) > _DEEPEST:
                raise self.wrong(f"nested more than {_DEEPEST} levels deep", number)
            found.append(value)
        return found

    def wrong(self, why: str, line: int) -> InputError:
        """The error to raise for a line, counted from 1, that is not as it was written."""
        return InputError(f"{self.path}, line {line}: {why}; delete that line to go on, or the file to begin anew")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written ({error.strerror}): free space or choose another --output"
            ) from error

    def _check(self, other: Mapping[str, Any]) -> None:
        names = [name for name in {**other, **self.run} if other.get(name) != self.run.get(name)]
        if names:
            differences = "; ".join(
                f"{name}: {short(other.get(name))} there, {short(self.run.get(name))} here" for name in names
            )
            raise InputError(
                f"{self.path} is an unfinished file of another run ({differences}): give the same again to go on, "
                "choose another --output, or delete it to begin anew"
            )


def _write(file: Any, lines: list[dict[str, Any]]) -> None:
    file.write(b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines))
    file.flush()
    os.fsync(file.fileno())
