"""The folder of an artifact: what its files are called, and how it is written whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deni.errors import InputError
from deni.outputs import INFO, check_free

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


@contextmanager
def placing(target: str | Path) -> Iterator[Path]:
    """A temporary folder in `target` whose files go there when all are written; no file of another's is touched.

    They replace those of an earlier artifact. While they go there, no half of one can be mistaken for a whole.

    Raises:
        InputError: the folder cannot be written (the message has the reason).
    """
    target = Path(target)
    temporary = None
    try:
        target.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".deni.", dir=target))
        yield temporary
        new = [path.relative_to(temporary) for path in sorted(temporary.rglob("*")) if path.is_file()]
        old = listed(target)
        (target / INFO).unlink(missing_ok=True)
        for name in old - {path.as_posix() for path in new}:
            (target / name).unlink(missing_ok=True)
        for path in sorted(new, key=lambda path: path.as_posix() == INFO):  # that last
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).chmod(0o644)  # safetensors makes files that only their owner can read
            (temporary / path).replace(target / path)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}): free space or choose another"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def listed(folder: Path) -> set[str]:
    """The files of the artifact that a folder holds, without `deni.json`; none where it holds no artifact."""
    try:
        names = set(json.loads((folder / INFO).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts}


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file in a folder, by its path in it: what `deni.json` lists as the artifact's own."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
