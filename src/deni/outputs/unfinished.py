"""Names of files and folders that are being written: by them what a killed process left is known, and removed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

PREFIX = ".deni-"  # of temporary names: short, since a name may be as long as can be
_LEFT = re.compile(r"\.deni-(?P<pid>\d+)-(?P<where>[0-9a-f]{8})-[a-z0-9_]{8}(\.jsonl|\.db(-wal|-shm)?)?")


def unfinished_name(folder: Path, suffix: str = "") -> Path:
    """A new name in a folder; a later command removes what has it where this process is killed."""
    return folder / f"{_prefix()}{secrets.token_hex(4)}{suffix}"


def unfinished_file(folder: Path) -> tuple[int, Path]:
    """A new file of such a name, open for writing, for this user alone."""
    handle, name = tempfile.mkstemp(prefix=_prefix(), dir=folder)
    return handle, Path(name)


def unfinished_folder(folder: Path) -> Path:
    """A new folder of such a name, for this user alone."""
    return Path(tempfile.mkdtemp(prefix=_prefix(), dir=folder))


def whole_folder(unfinished: Path) -> Path:
    """Give a folder that is written another name, under which nobody removes it: it may be the only copy."""
    return unfinished.rename(unfinished.with_name(f"{PREFIX}{secrets.token_hex(4)}"))


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes of this user and this system had begun to write into a folder; all else stays."""
    where = _where()
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _LEFT.fullmatch(entry.name)
            if not where or found is None or found["where"] != where or _is_alive(int(found["pid"])):
                continue
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif entry.is_file(follow_symlinks=False):
                    os.unlink(entry.path)


def _prefix() -> str:
    return f"{PREFIX}{os.getpid()}-{_where()}-"


@cache
def _where() -> str:
    """Eight digits of what a number of a process is unique in: host, boot, container; nothing where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        numbers = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # no Linux
        return ""
    return hashlib.sha256(f"{platform.node()} {boot} {numbers}".encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True
