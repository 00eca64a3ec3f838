"""The folder of an artifact: what its files are called, and how it is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deni.errors import InputError
from deni.outputs import check_free

FORMAT = 2
MEMBERS, BASE, CARD = "population.safetensors", "base.safetensors", "README.md"
ADAPTERS = "adapters.json"  # what the package `adapters` put into the model, where it did
IDS = "@ids"  # suffix of the tensor with the ids of the embedding rows that the members hold


@contextmanager
def writing(target: str | Path, overwrite: bool) -> Iterator[Path]:
    """A temporary folder next to `target` that is renamed to it when all is written, or removed if something fails.

    Raises:
        InputError: the target exists and `overwrite` is False, or it cannot be written (the message has the reason).
    """
    target = Path(target)
    check_free(target, overwrite)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        temporary.chmod(0o755)
        yield temporary
        for path in temporary.rglob("*.safetensors"):
            path.chmod(0o644)  # safetensors makes files that only their owner can read
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.rename(old / "old")
            temporary.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(target)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}): free space or choose another"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file in a folder, by its path in it: what `deni.json` lists as the artifact's own."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
