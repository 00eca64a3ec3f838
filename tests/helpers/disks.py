"""Small disks that can be filled, and made read-only, while a test runs."""

import os
import subprocess
from pathlib import Path


class Disk:
    """A file system in memory, mounted at a folder.

    Attributes:
        folder: where it is.
    """

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.problem = self._call("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)

    @staticmethod
    def _call(*words) -> str:
        """What a command has to complain about; empty if it went well."""
        try:
            done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        except OSError as error:
            return str(error)
        return (done.stderr.strip() or "failed") if done.returncode else ""

    def fill(self, leave: int = 0) -> None:
        """Fill it up to so many bytes, in a hidden file."""
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        with (self.folder / ".filler").open("ab") as file:
            file.write(bytes(max(free - leave, 0)))

    def make_read_only(self) -> None:
        """From now on nothing can be written, not even by root."""
        assert not self._call("mount", "-o", "remount,ro", self.folder)

    def close(self) -> None:
        """Unmount it."""
        if not self.problem:
            self._call("umount", "-l", self.folder)
