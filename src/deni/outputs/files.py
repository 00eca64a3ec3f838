"""Which files may be written over: never what is read, results of studies only by their like."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from deni.errors import InputError
from deni.outputs.names import check_name, is_same, is_within
from deni.outputs.trying import try_file

SUFFIXES, CONLL = (".csv", ".tsv", ".jsonl", ".parquet"), ".conll"

SQLITE = b"SQLite format 3\0"  # what a study's store begins with
APPLICATION, APPLICATION_AT = 0x64656E69, 68  # of a store, and where SQLite's header has it
JOURNALS = ("-wal", "-shm", "-journal")  # files next to a database
PARQUET = b"PAR1"
ARCHIVED = (b"decides", b"arrays", b"fingerprint")  # columns of an archive, among others

Kind = Literal["file", "store", "archive"]


def check_file(
    target: str | Path, overwrite: bool, inputs: Iterable[str | Path | None] = (), kind: Kind = "file"
) -> Path:
    """Check before any work that a file can be written; folders on the way may be missing.

    Args:
        inputs: what is read: an output never replaces it, not even through a link or another spelling. Of a folder
            that is read no file is replaced. Names of what are no files (datasets, `-`) are passed over.
        kind: what is written. A store or archive of a study replaces one that deni wrote, and nothing else; any other
            file replaces neither.

    Raises:
        InputError: an impossible name (see `check_name`), a folder, an input, a result of a study, a file that exists
            without `overwrite`, or one that cannot be written.
    """
    path = check_name(target)
    if path.is_dir():
        raise InputError(f"{target} is a folder: name a file in it")
    for given in inputs:
        if given is None:
            continue
        if is_same(path, given):
            raise InputError(f"{target} is what is read: choose another file for the output")
        if path.exists() and os.path.isdir(given) and is_within(path, Path(given)):
            raise InputError(f"{target} is in {given}, which is read: choose another file for the output")
    if path.exists() and not path.is_file():
        raise InputError(f"{target} is no regular file: choose another file")
    if path.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another file or give --overwrite")
    if path.exists():
        _check_replaced(path, kind)
    for suffix in JOURNALS:
        base = path.with_name(path.name.removesuffix(suffix))
        if base != path and is_database(base):
            raise InputError(f"{target} belongs to the database {base}: choose another file")
    try_file(path)
    return path


def _check_replaced(path: Path, kind: Kind) -> None:
    """Raise InputError where a file that is there is not to be replaced by one of this kind."""
    if kind == "store":
        if any(path.with_name(path.name + suffix).exists() for suffix in JOURNALS):
            raise InputError(f"{path} is in use, or was not closed: choose another file")
        if not is_store(path):
            raise InputError(f"{path} is not a store of `deni study` and is not overwritten: choose another file")
    elif is_database(path):
        raise InputError(f"{path} is a database, such as the store of a study, and is not overwritten: choose another")
    elif kind == "archive" and not is_archive(path):
        raise InputError(f"{path} is not an archive of `deni study export` and is not overwritten: choose another file")
    elif kind == "file" and is_archive(path):
        raise InputError(f"{path} is an archive of a study and is not overwritten: choose another file")


def check_store(target: str | Path, inputs: Iterable[str | Path | None] = ()) -> Path:
    """Check before any work that a study's results can be kept in a file, which may be a store already.

    Raises:
        InputError: an impossible name, a folder, an input, or a file of another kind.
    """
    path = check_name(target)
    if path.is_dir():
        raise InputError(f"{target} is a folder: name a file in it")
    for given in inputs:
        if given is not None and is_same(path, given):
            raise InputError(f"{target} is what is read: choose another file for the store")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{target}: no folder {path.absolute().parent}: create it first")
    if not path.exists():
        try_file(path)
    return path


def is_database(path: Path) -> bool:
    """Whether a file is a SQLite database; one with a journal is, even where all that was written is in that."""
    return _begins(path, SQLITE) or path.with_name(f"{path.name}-wal").exists()


def is_store(path: Path) -> bool:
    """Whether a file is a database that `deni study` wrote."""
    return _begins(path, SQLITE) and _read(path, APPLICATION_AT, 4) == APPLICATION.to_bytes(4, "big")


def is_archive(path: Path) -> bool:
    """Whether a file is an archive of a study: Parquet, with the columns of one in its footer."""
    if not _begins(path, PARQUET):
        return False
    size = path.stat().st_size
    footer = min(int.from_bytes(_read(path, max(size - 8, 0), 4), "little"), size)
    names = _read(path, max(size - 8 - footer, 0), footer)
    return all(name in names for name in ARCHIVED)


def _begins(path: Path, magic: bytes) -> bool:
    return _read(path, 0, len(magic)) == magic


def _read(path: Path, at: int, count: int) -> bytes:
    """Some bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(count)
    except OSError:
        return b""


def check_output(
    output: str | Path, overwrite: bool, words: bool = False, inputs: Iterable[str | Path | None] = ()
) -> None:
    """Check before any work that rows can be written there; `-` is standard output.

    Args:
        words: whether each row has words and their tags, which CoNLL needs.
        inputs: what is read, see `check_file`.

    Raises:
        InputError: another suffix, or a file that `check_file` refuses.
    """
    if str(output) != "-":
        check_name(output)
    if format_of(output) == CONLL and not words:
        raise InputError(f"{output}: a CoNLL file has a tag for each word, which there is not: write {_listed()}")
    if str(output) != "-":
        check_file(output, overwrite, inputs)


def format_of(output: str | Path) -> str:
    """The suffix without `.gz`, `.csv` for standard output; raises an InputError for an unknown one."""
    if str(output) == "-":
        return ".csv"
    path = Path(output)
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (*SUFFIXES, CONLL):
        raise InputError(f"{path}: unknown suffix {suffix!r}, write {_listed()} (.gz works, too)")
    return suffix


def _listed() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
