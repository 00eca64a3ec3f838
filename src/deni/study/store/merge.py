"""Several stores become one."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from deni.errors import InputError, InputWarning
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


def whole_copy(store: Store, into: Path) -> None:
    """Write the cells of a store that are not damaged as another store, which is not there yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # the caller knows which are left out
        into.unlink(missing_ok=True)
        with _target(into) as copy:
            for record, arrays in store.records():
                copy.restore(record, arrays)


@contextlib.contextmanager
def _target(path: Path) -> Iterator[Store]:
    """The store at `path`; a new one comes there only when all went well."""
    if path.exists():
        with Store(path) as store:
            yield store
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with Store(temporary, create=True) as store:
            yield store
        temporary.replace(path)  # closing has moved the journal into the file
    finally:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{temporary}{suffix}")
