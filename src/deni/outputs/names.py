"""What an output may be called, and whether two paths are one file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from deni.errors import InputError

LONGEST = 255  # bytes of a name, on most file systems


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
    except (FileNotFoundError, NotADirectoryError):  # the trial says what is wrong with the folder
        found = False
    except OSError as error:
        raise InputError(f"{name if len(name) < 80 else name[:77] + '...'}: {error.strerror}: choose another") from None
    if found and not path.exists():
        raise InputError(f"{path} is a link to {os.readlink(path)}, which does not exist: choose another name")
    return path


def is_same(one: Path, other: str | Path) -> bool:
    """Whether two paths are one file, through links and other spellings; also of files that are not there yet."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one is not there, or is no name of a file
        return os.path.exists(one) == os.path.exists(other) and _resolved(one) == _resolved(other)


def _resolved(path: str | Path) -> str:
    """A path without links; one that no file can have as it is."""
    try:
        return os.path.realpath(path)
    except ValueError:
        return str(path)


def is_within(path: str | Path, folder: Path) -> bool:
    """Whether an existing file or folder is `folder`, or in it; no name of a file is in none."""
    try:
        return os.path.exists(path) and Path(path).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):
        return False
