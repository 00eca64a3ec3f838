"""Stored answers of a language model, so that no request is paid for twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deni.errors import InputError

FILE = "answers.db"
BUSY = 60  # seconds to wait for another process that writes


@dataclass(frozen=True)
class Answer:
    """A model's answer, and its token counts.

    Attributes:
        text: empty where the model returned nothing.
        input_tokens: of the request, as the server counts; None where it does not.
        output_tokens: of the answer.
    """

    text: str
    input_tokens: int | None = None
    output_tokens: int | None = None


class Answers:
    """A SQLite file of requests and their answers, for its owner only; several processes may use it at once.

    Args:
        folder: where the file is, or will be.

    Raises:
        InputError: the file cannot be opened, read or written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder).expanduser() / FILE
        with self._said():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.path.chmod(0o600)  # texts are nobody else's
            # Each statement is its own transaction, on disk when it returns. One thread at a time asks.
            self._database = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS answers "
                "(request TEXT PRIMARY KEY, text TEXT, input_tokens INTEGER, output_tokens INTEGER) WITHOUT ROWID"
            )

    def get(self, request: str) -> Answer | None:
        """The answer to a request, if there is one."""
        find = "SELECT text, input_tokens, output_tokens FROM answers WHERE request = ?"
        with self._said():
            row = self._database.execute(find, (request,)).fetchone()
        return None if row is None else Answer(*row)

    def put(self, request: str, answer: Answer) -> Answer:
        """Store an answer; of two answers to one request the first counts, and is what comes back."""
        insert = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)"
        with self._said():
            self._database.execute(insert, (request, answer.text, answer.input_tokens, answer.output_tokens))
        found = self.get(request)
        assert found is not None
        return found

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Errors of disk and file in one line."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(f"{self.path}: {why}: free space, or name another folder with --cache") from error
