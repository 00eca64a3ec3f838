"""Reading what deni itself wrote: regular files only, since reading a pipe or a device may never end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def irregular(file: Path) -> str | None:
    """What a path is where a file was expected, as `a pipe or device`; None for a file, and for nothing at all."""
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):  # it is not there, which whoever needs it says
        return None
    return None if stat.S_ISREG(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe or device"


def written_bytes(file: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    kind = irregular(file)
    if kind == "a pipe or device":  # of a folder the system says so
        raise OSError(errno.EINVAL, kind, str(file))
    return file.read_bytes()


def written_text(file: Path) -> str:
    """The content of a file in UTF-8.

    Raises:
        OSError: it cannot be read, or is no regular file.
        UnicodeDecodeError: it is not UTF-8.
    """
    return written_bytes(file).decode()
