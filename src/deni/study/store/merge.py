"""Several stores become one."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from deni.errors import InputError, InputWarning
from deni.outputs import describe_failure, place_file, unfinished_name
from deni.study.store.archive import opened
from deni.study.store.database import MergeResult, Store


def merge_files(into: str | Path, others: Sequence[str | Path]) -> list[tuple[str, MergeResult]]:
    """Take the cells of other stores over; a store that is not there is made, whole or not at all.

    Args:
        others: stores, or archives (`deni.study.store.archive`).

    Returns:
        Each file with what came of it.

    Raises:
        InputError: a file that is not a store, or is named twice.
    """
    names = [os.path.realpath(each) for each in (into, *others)]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise InputError(f"{(into, *others)[at]} is named twice: a store is not merged with itself")
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(opened(each)) for each in others]
        store = stack.enter_context(_target(Path(into)))
        return [(str(path), store.merge(other)) for path, other in zip(others, stores, strict=True)]


def whole_copy(store: Store, into: Path, overwrite: bool = False) -> None:
    """Write the cells of a store that are not damaged as another store, whole or not at all.

    Args:
        overwrite: replace a store that is there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # the caller knows which are left out
        with _new(into, overwrite) as copy:
            for record, arrays in store.records():
                copy.restore(record, arrays)


@contextlib.contextmanager
def _target(path: Path) -> Iterator[Store]:
    """The store at `path`; a new one comes there only when all went well."""
    if path.exists():
        with Store(path) as store:
            yield store
        return
    with _new(path) as store:
        yield store


@contextlib.contextmanager
def _new(path: Path, overwrite: bool = False) -> Iterator[Store]:
    """A new store that gets its name when all went well.

    Raises:
        InputError: it cannot be written, or another one has come there without `overwrite`.
    """
    temporary = unfinished_name(path.parent, ".db")
    try:
        with Store(temporary, create=True) as store:
            yield store
        try:
            place_file(temporary, path, overwrite)  # closing has moved the journal into the file
        except OSError as error:
            why = describe_failure(error)
            raise InputError(f"{path} cannot be written ({why}): free space or choose another") from error
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{temporary}{suffix}")
