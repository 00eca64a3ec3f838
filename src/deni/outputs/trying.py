"""What can fail at the end of a long run is tried at its start: a file is written and removed, space is asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deni.errors import InputError
from deni.outputs.failures import describe_failure
from deni.outputs.unfinished import remove_leftovers, unfinished_file, unfinished_folder

BLOCK = 4096  # bytes that are written to see whether anything can be


def try_file(path: Path) -> None:
    """Write a file of that name and remove it, with the folders that it takes; one that is there stays as it is.

    Raises:
        InputError: it cannot be written (the message has the reason).
    """
    with _tried(path) as folder:
        remove_leftovers(folder)
        handle, name = unfinished_file(folder)
        try:
            with open(handle, "wb") as file:
                file.write(bytes(BLOCK))
            if not os.path.lexists(path):
                path.touch(exist_ok=False)
                path.unlink()
        finally:
            os.unlink(name)


def try_folder(path: Path) -> None:
    """Make a folder of that name with a file in it, and remove it; one that is there stays as it is.

    Raises:
        InputError: it cannot be written (the message has the reason).
    """
    with _tried(path) as folder:
        remove_leftovers(folder)
        made = unfinished_folder(folder)
        try:
            (made / "file").write_bytes(bytes(BLOCK))
            (made / "file").unlink()
            if not os.path.lexists(path):
                path.mkdir()
                path.rmdir()
        finally:
            shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _tried(path: Path) -> Iterator[Path]:
    """The folder of a path; folders that are not there are made, and removed again."""
    parent, made = path.absolute().parent, []
    missing = []
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    try:
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise InputError(f"{path} cannot be written: {parent} is not writable, choose another place")
        for each in reversed(missing):
            with suppress(FileExistsError):  # another process was faster
                each.mkdir()
                made.append(each)
        yield path.absolute().parent
    except OSError as error:
        reason = describe_failure(error)
        raise InputError(f"{path} cannot be written ({reason}): free space or choose another place") from error
    finally:
        for each in reversed(made):
            with suppress(OSError):  # by now another process uses it
                each.rmdir()


def check_room(target: str | Path, size: int, largest: int) -> None:
    """Raise InputError where a disk, or the limit on the size of files, has no room for an output.

    Args:
        target: the file or folder to write; what it replaces is there until it is written.
        size: its bytes, all files together.
        largest: bytes of the largest file.
    """
    parent = Path(target).absolute().parent
    while not parent.exists():
        parent = parent.parent
    if (limit := _file_limit()) is not None and largest > limit:
        raise InputError(
            f"{target} needs a file of about {_human(largest)}, and the limit of this shell is {_human(limit)}: "
            "raise it (ulimit -f)"
        )
    free = shutil.disk_usage(parent).free
    if size > free:
        raise InputError(
            f"{target} needs about {_human(size)}, and {_human(free)} are free there: free space or choose another "
            "place"
        )


def _file_limit() -> int | None:
    """The largest file in bytes that this process may write; None for no limit."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def _human(size: int) -> str:
    for unit, bytes_of_it in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_of_it:
            return f"{size / bytes_of_it:.1f} {unit}"
    return f"{size} bytes"
