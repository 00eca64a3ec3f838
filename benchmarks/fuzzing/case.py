"""A command on an odd input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Case:
    """A command on an odd input.

    Args:
        argv: of `deni`.
        stdin: what it may read.
        refused: whether it must not be taken.
        changes: files that it may change: a store of an earlier version is migrated when it is opened.
        writes: outputs that are whole although it ends with an error: what a check has saved of a damaged store.
    """

    argv: list[str]
    stdin: bytes = b"y\nyes\n1\n"
    refused: bool = False
    changes: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
