"""Where results may be written: checked before any work, and before anything large is imported."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from deni.errors import InputError

INFO = "deni.json"  # of an artifact
SUFFIXES, CONLL = (".csv", ".tsv", ".jsonl", ".parquet"), ".conll"


LONGEST = 255  # bytes of a name, on most file systems
SQLITE = b"SQLite format 3\0"  # what a study's store begins with


def check_name(target: str | Path) -> Path:
    """The path of an output.

    Raises:
        InputError: a name that is empty, too long or not UTF-8, or a link to nothing.

    >>> check_name("")
    Traceback (most recent call last):
    deni.errors.InputError: the output has no name: give a path
    """
    name, path = str(target), Path(target)
    if not name:
        raise InputError("the output has no name: give a path")
    if "\0" in name:
        raise InputError(f"{name!r} has a NUL character: choose another name")
    try:
        longest = max((len(part.encode()) for part in path.parts), default=0)
    except UnicodeEncodeError:
        raise InputError(f"{name!a} is not UTF-8: choose another name") from None
    if longest > LONGEST:
        raise InputError(f"{name[:40]}... has a name of {longest} bytes: {LONGEST} is the most, choose a shorter one")
    try:
        found = stat.S_ISLNK(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):  # `check_writable` says what is wrong with the folder
        found = False
    except OSError as error:
        raise InputError(f"{name if len(name) < 80 else name[:77] + '...'}: {error.strerror}: choose another") from None
    if found and not path.exists():
        raise InputError(f"{path} is a link to {os.readlink(path)}, which does not exist: choose another name")
    return path


def check_file(target: str | Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> Path:
    """Check before any work that a file can be written; folders on the way may be missing.

    Args:
        inputs: what is read: an output never replaces it, not even through a link or another spelling. Names of what
            are no files (datasets, `-`) are passed over.

    Raises:
        InputError: an impossible name (see `check_name`), a folder, an input, the store of a study, or a file that
            exists without `overwrite`.
    """
    path = check_name(target)
    if path.is_dir():
        raise InputError(f"{target} is a folder: name a file in it")
    for given in inputs:
        if given is not None and is_same(path, given):
            raise InputError(f"{target} is what is read: choose another file for the output")
    if path.exists() and not path.is_file():
        raise InputError(f"{target} is no regular file: choose another file")
    if path.exists() and not overwrite:
        raise InputError(f"{target} exists: choose another file or give --overwrite")
    if path.exists() and is_store(path):
        raise InputError(
            f"{target} is a database, such as the store of a study, and is not overwritten: choose another"
        )
    check_writable(path)
    return path


def is_same(one: Path, other: str | Path) -> bool:
    """Whether two paths are one file, through links and other spellings; also of files that are not there yet."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one is not there, or is no name of a file
        return one.exists() == os.path.exists(other) and one.resolve() == Path(other).resolve()


def is_store(path: Path) -> bool:
    """Whether a file is a SQLite database."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


def check_free(target: str | Path, overwrite: bool) -> None:
    """Raise InputError where `target` exists and may not be overwritten: only models and empty folders may."""
    target = check_name(target)
    if not target.exists():
        return
    if not overwrite:
        raise InputError(f"{target} exists: choose another folder or give --overwrite")
    models = (INFO, "config.json", "adapter_config.json", "member-0")
    if not target.is_dir() or not (_is_empty(target) or any((target / name).exists() for name in models)):
        raise InputError(f"{target} is not a model and is not overwritten: choose another folder")


def check_outside(target: str | Path, *kept: str | Path) -> None:
    """Raise InputError where overwriting `target` would take away one of the files or folders to be kept."""
    for path in kept:
        if Path(path).exists() and Path(path).resolve().is_relative_to(Path(target).resolve()):
            raise InputError(f"{path} is in {target}, which would be overwritten: choose another folder")


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def check_writable(target: str | Path) -> None:
    """Raise InputError where no file or folder can be made there; folders on the way may be missing."""
    parent = Path(target).absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{target} cannot be written: {parent} is not writable, choose another place")


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
