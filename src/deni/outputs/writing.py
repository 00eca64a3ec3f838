"""Files and folders are written whole or not at all; what cannot be put where it belongs is kept elsewhere."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from deni.errors import InputError, InputWarning, shown
from deni.outputs.failures import describe_failure, system_errors
from deni.outputs.folders import INFO, LIST, MOST, check_folder, files_of, foreign_files, listed, write_list
from deni.outputs.unfinished import PREFIX, unfinished_file, unfinished_folder, whole_folder

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


class SavedElsewhereError(InputError):
    """A result that could not be written where it belongs, and that is in another place.

    Attributes:
        path: where it is.
    """

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


# ---- files -----------------------------------------------------------------------------------------------------------


def write_bytes(path: Path, data: bytes, overwrite: bool = False, kept: str = "") -> None:
    """Write a file whole or not at all; folders on the way are made.

    Args:
        overwrite: replace a file that is there; without it one that has come since it was checked stays.
        kept: what the file holds ("the table is"), to keep it in the temporary directory where it cannot be written;
            the message says where. Empty: nothing is kept.

    Raises:
        SavedElsewhereError: it could not be written, but is kept.
        InputError: it could not be written.
    """
    try:
        _write(path, data, overwrite)
    except OSError as error:
        raise _elsewhere(path, error, kept, lambda place: _write(place, data, False)) from error


def as_utf8(text: str) -> bytes:
    r"""A text as a file has it; half a character, as in the name of a file that is not UTF-8, as an escape.

    >>> as_utf8("caf\xe9 \udcff")
    b'caf\xc3\xa9 \\udcff'
    """
    return text.encode("utf-8", "backslashreplace")


def _write(path: Path, data: bytes, overwrite: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = unfinished_file(path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        place_file(temporary, path, overwrite)
    finally:
        with suppress(OSError):
            temporary.unlink()


def place_file(temporary: Path, path: Path, overwrite: bool) -> None:
    """Give a finished file its name, in one moment; without `overwrite` a file that is there stays.

    Raises:
        OSError: it is there, or cannot be replaced.
    """
    if overwrite:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "has come meanwhile", str(temporary), None, str(path)) from None
        temporary.replace(path)
    else:
        temporary.unlink()


# ---- folders ---------------------------------------------------------------------------------------------------------


def write_folder(
    target: str | Path,
    write: Callable[[Path], None],
    overwrite: bool = False,
    inputs: Iterable[str | Path | None] = (),
    kept: str = "",
    use: str = "",
    checked: bool = False,
) -> Path:
    """Write a folder whole or not at all; one that it replaces is whole until then.

    Args:
        write: writes the files into an empty folder; called again, with another one, where the first fails.
        overwrite, inputs: see `check_folder`.
        kept: what the folder holds ("the model is"), to keep it in the temporary directory where it cannot be written;
            the message says where. Empty: nothing is kept.
        use: a command that uses it, with {} for its place.
        checked: whether `check_folder` was called before the work; then what has come there since loses nothing.

    Returns:
        the folder.

    Raises:
        SavedElsewhereError: it could not be written, but is kept.
        InputError: it could not be written, or may not be: see `check_folder`.
    """
    inputs = list(inputs)
    if not checked:
        check_folder(target, overwrite, inputs)
    target = Path(target)
    temporary = whole = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = unfinished_folder(target.parent)
        _fill(temporary, write)
        whole = temporary = whole_folder(temporary)
        old = _place_folder(temporary, target, overwrite, inputs)
        temporary = None  # it has another name now
        if old is not None:
            _clear(old, target)
    except (OSError, InputError) as error:
        failure = _elsewhere(target, error, kept, lambda place: _fill_new(place, write), use, whole)
        if isinstance(failure, SavedElsewhereError) and failure.path == temporary:
            temporary = None  # it stays
        raise failure from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _fill(folder: Path, write: Callable[[Path], None]) -> None:
    with system_errors():
        write(folder)
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o644)  # safetensors makes files that only their owner can read
            with path.open("rb") as file:
                os.fsync(file.fileno())  # a full disk may show only here


def _fill_new(folder: Path, write: Callable[[Path], None]) -> None:
    folder.mkdir()
    _fill(folder, write)


def _place_folder(temporary: Path, target: Path, overwrite: bool, inputs: Iterable[str | Path | None]) -> Path | None:
    """Give a finished folder its name; where the one that it replaces is now, None where it replaces none."""
    if not os.path.lexists(target):
        temporary.rename(target)
        return None
    check_folder(target, overwrite, inputs)  # it may have changed since
    if _exchange(temporary, target):
        return temporary
    old = Path(tempfile.mkdtemp(prefix=PREFIX, dir=target.parent)) / target.name
    target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        old.rename(target)
        old.parent.rmdir()
        raise
    return old


def _exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one moment; False where the system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # no Linux, or an old one
        return False
    return call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def _clear(old: Path, target: Path) -> None:
    """Remove the files that deni wrote into a folder; what has come there meanwhile goes into the one that replaced it.

    Warns:
        InputWarning: what could not, and stays.
    """
    try:
        own, foreign = files_of(old), [name.rstrip("/") for name in foreign_files(old)]
    except OSError:  # a folder that cannot be read: it stays
        own, foreign = {}, []
    for name in own.keys() - set(foreign):
        with suppress(OSError):
            (old / name).unlink()
    for name in foreign:
        if not os.path.lexists(target / name):
            with suppress(OSError):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (old / name).rename(target / name)
    for folder, _, _ in os.walk(old, topdown=False):
        with suppress(OSError):
            os.rmdir(folder)
    if old.exists():
        left = [path.relative_to(old).as_posix() for path in sorted(old.rglob("*")) if not path.is_dir()]
        what = f"{target} was replaced, and {old} keeps what came there meanwhile ({shown(left, MOST)})"
        warnings.warn(what, InputWarning, stacklevel=2)
    elif old.parent.name.startswith(PREFIX):
        with suppress(OSError):
            old.parent.rmdir()


def write_into(
    target: str | Path, write: Callable[[Path], None], own_list: bool = True, kept: str = "", use: str = ""
) -> None:
    """Put files into a folder when all are written; no file of another's is touched.

    They replace those of an earlier call, by its list. While they go there, no half of an artifact can be mistaken for
    a whole.

    Args:
        write: writes the files into an empty folder.
        own_list: whether the list is to be written; an artifact has it in `deni.json`.
        kept, use: see `write_folder`.

    Raises:
        SavedElsewhereError: they could not be put there, but are kept.
        InputError: they cannot be put there (the message has the reason).
    """
    target = Path(target)
    temporary = None

    def fill(folder: Path) -> None:
        write(folder)
        if own_list:
            write_list(folder)

    try:
        target.mkdir(parents=True, exist_ok=True)
        temporary = unfinished_folder(target)
        with system_errors():
            fill(temporary)
        temporary = whole_folder(temporary)
        _move_files(temporary, target, LIST if own_list else INFO, guarded=own_list)
    except OSError as error:
        raise _elsewhere(target, error, kept, lambda place: _fill_new(place, fill), use) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _move_files(temporary: Path, target: Path, own: str, guarded: bool) -> None:
    """Move all files of a folder into another one, the list last.

    Args:
        own: the list.
        guarded: whether a file that is there and not of an earlier call is an error; else it is replaced.
    """
    new = [path.relative_to(temporary) for path in sorted(temporary.rglob("*")) if path.is_file()]
    old = listed(target, own)
    for path in new:
        if guarded and os.path.lexists(target / path) and path.as_posix() not in old:
            raise FileExistsError(errno.EEXIST, "was not written by deni", str(temporary), None, str(target / path))
    (target / own).unlink(missing_ok=True)
    for name in old - {path.as_posix() for path in new}:
        (target / name).unlink(missing_ok=True)
    for path in sorted(new, key=lambda path: path.as_posix() == own):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (temporary / path).chmod(0o644)  # safetensors makes files that only their owner can read
        (temporary / path).replace(target / path)


# ---- elsewhere -------------------------------------------------------------------------------------------------------


def _elsewhere(
    target: Path,
    error: OSError | InputError,
    kept: str,
    write: Callable[[Path], None],
    use: str = "",
    whole: Path | None = None,
) -> InputError:
    """Write what could not be written to the temporary directory; the error that says so.

    Args:
        write: writes it to a path that is not there.
        whole: where it is already, next to its target.
    """
    if isinstance(error, InputError):
        why, as_it_is = str(error), error
    elif isinstance(error, FileExistsError):
        why = f"{error.filename2 or target} exists and is not replaced"
        as_it_is = InputError(f"{why}: choose another file or give --overwrite")
    else:
        why = f"{target} cannot be written ({describe_failure(error)})"
        as_it_is = InputError(f"{why}: free space or choose another")
    if not kept:
        return as_it_is
    folder, place = None, whole
    try:
        folder = Path(tempfile.mkdtemp(prefix="deni-"))
        write(folder / target.name)
        place = folder / target.name
    except (OSError, InputError) as second:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if place is None:
            also = f"{why}, and neither can the temporary directory ({describe_failure(second)})"
            return InputError(f"{also}: {kept} not saved")
    there = f"use it there (`{use.format(place)}`)" if use else "use it there"
    return SavedElsewhereError(f"{why}: {kept} in {place}; {there}, or move it", place)
