"""The folder of an artifact: what its files are called, and how it is written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deni.errors import InputError

FORMAT = 2
INFO, MEMBERS, BASE, CARD = "deni.json", "population.safetensors", "base.safetensors", "README.md"
ADAPTERS = "adapters.json"  # what the package `adapters` put into the model, where it did
IDS = "@ids"  # suffix of the tensor that says which rows of an embedding the members hold


@contextmanager
def writing(target: str | Path, overwrite: bool) -> Iterator[Path]:
    """A folder beside `target` that becomes it when all is written; nothing is left behind if something fails.

    Raises:
        InputError: the target exists and `overwrite` is False, or it cannot be written (the message says why).
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


def check_free(target: str | Path, overwrite: bool) -> None:
    """Raise InputError where `target` exists and may not be overwritten: only models and empty folders may."""
    target = Path(target)
    if not target.exists():
        return
    if not overwrite:
        raise InputError(f"{target} exists: choose another folder or give --overwrite")
    models = (INFO, "config.json", "adapter_config.json", "member-0")
    if not target.is_dir() or not (_is_empty(target) or any((target / name).exists() for name in models)):
        raise InputError(f"{target} is no model and is not overwritten: choose another folder")


def check_outside(target: str | Path, *kept: str | Path) -> None:
    """Raise InputError where overwriting `target` would take away one of the files or folders to be kept."""
    for path in kept:
        if Path(path).exists() and Path(path).resolve().is_relative_to(Path(target).resolve()):
            raise InputError(f"{path} is in {target}, which would be overwritten: choose another folder")


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None
