"""Which checkpoints are whole: each has a manifest, written last, with size and SHA-256 of all its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deni.errors import ArtifactError, InputError, InputWarning, short
from deni.provenance import digest_of_file, versions
from deni.written import irregular, written_text

MANIFEST, FORMAT = "manifest.json", 1
PARTIAL = "_partial"  # what is being written or removed is in it; uploads to the Hub leave such names out
CHECKPOINT = re.compile(r"checkpoint-(\d+)")  # as Trainer has it
_STATES = ("trainer_state.json", "population.json")  # a folder with one of them is meant to be a checkpoint

Identity = tuple[int, int, int]


def write(folder: Path, about: Mapping[str, Any], known: dict[Identity, str]) -> None:
    """Write the manifest of a checkpoint folder, when all of its files and their names are on the disk.

    Args:
        about: `step`, `processes` and `only_model`.
        known: digests of files that were seen before, by what changes with a file; those of this folder are added. What
            members share is linked to, and is often the largest.
    """
    files, paths = {}, sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        sync(path)
        found = path.stat()
        identity = found.st_ino, found.st_mtime_ns, found.st_size
        known[identity] = known.get(identity) or digest_of_file(path)
        files[path.relative_to(folder).as_posix()] = {"size": found.st_size, "sha256": known[identity]}
    for path in {path.parent for path in paths}:
        sync(path)
    content = {"format": FORMAT, "versions": versions(), **about, "files": files}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sync(folder / MANIFEST)
    sync(folder)


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk, so that they outlast a power cut."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # Windows opens no folders
            return
        raise
    try:
        os.fsync(opened)
    except OSError:
        if not path.is_dir():  # some file systems have no such call for folders
            raise
    finally:
        os.close(opened)


def damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint; None where all are as they were written."""
    manifest = _read(folder)
    return manifest if isinstance(manifest, str) else _changed(folder, manifest["files"])


def obstacle(folder: Path, rank: int = 0, processes: int = 1) -> str | None:
    """Why training cannot go on from a checkpoint; None where it can.

    Args:
        rank, processes: of the training that goes on.
    """
    manifest = _read(folder)
    if isinstance(manifest, str):
        return manifest
    if manifest["only_model"]:
        return "it was saved with save_only_model, without optimizer and generators"
    if manifest["processes"] != processes:
        return f"the number of processes was {manifest['processes']}, not {processes}"
    if f"randomness_{rank}.safetensors" not in manifest["files"]:
        return f"it has no random generators of process {rank}: the processes need one output folder"
    return _changed(folder, manifest["files"])


def _read(folder: Path) -> dict[str, Any] | str:
    """The manifest, or why there is none to go by."""
    try:
        manifest = json.loads(written_text(folder / MANIFEST))
    except FileNotFoundError:
        if not folder.is_dir():
            return "it does not exist"
        return f"it has no {MANIFEST}: not written to its end, or by an earlier version or a plain Trainer"
    except (OSError, ValueError, RecursionError) as error:
        return f"{MANIFEST} is not readable ({getattr(error, 'strerror', None) or error})"
    if isinstance(manifest, dict) and isinstance(manifest.get("format"), int) and manifest["format"] > FORMAT:
        return f"its format is {manifest['format']}, this version reads {FORMAT}"
    if not _is_manifest(manifest):
        return f"{MANIFEST} is damaged"
    return manifest


def _is_manifest(value: Any) -> bool:
    kinds = {"format": int, "processes": int, "only_model": bool, "files": dict}
    if not isinstance(value, dict) or not all(isinstance(value.get(name), kind) for name, kind in kinds.items()):
        return False
    inside = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in value["files"])
    rows = value["files"].values()
    return inside and all(isinstance(row, dict) and row.keys() >= {"size", "sha256"} for row in rows)


def _changed(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first file that is not as it was written."""
    for name, row in files.items():
        path = folder / name
        try:
            kind = irregular(path)
            if kind is not None:
                return f"{short(name)[1:-1]} is {kind} where a file was expected"
            size = path.stat().st_size
            if size != row["size"]:
                return f"{short(name)[1:-1]} has {size} bytes, not {short(row['size'])}"
            if digest_of_file(path) != row["sha256"]:
                return f"{short(name)[1:-1]} was changed after it was written"
        except (FileNotFoundError, NotADirectoryError):
            return f"{short(name)[1:-1]} is missing"
        except (OSError, ValueError) as error:
            return f"{short(name)[1:-1]} is not readable ({error})"
    return None


# ---- which one -----------------------------------------------------------------------------------------------------


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint's name; None for a folder of another name.

    >>> step_of(Path("out/checkpoint-14")), step_of(Path("out/checkpoint-best"))
    (14, None)
    """
    found = CHECKPOINT.fullmatch(folder.name)
    return int(found[1]) if found else None


def checkpoints(folder: str | Path) -> list[Path]:
    """The folders `checkpoint-STEP` in a folder, the highest step first."""
    try:
        found = [path for path in Path(folder).iterdir() if step_of(path) is not None and path.is_dir()]
    except (OSError, ValueError):  # it is not there, or is no name of a folder
        return []
    return sorted(found, key=lambda path: step_of(path) or 0, reverse=True)


def newest(folder: str | Path | None) -> Path | None:
    """The checkpoint of the highest step among those that were written to their end; None without any."""
    return next((path for path in checkpoints(folder) if (path / MANIFEST).is_file()), None) if folder else None


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is meant to be a checkpoint, by its name or its files."""
    return step_of(folder) is not None or any(os.path.isfile(folder / name) for name in (MANIFEST, *_STATES))


def checkpoint_folder(output: str | Path) -> Path:
    """The folder of an artifact's checkpoints: next to it, never in it."""
    output = Path(output)
    return output.with_name(output.name + ".checkpoints")


def named(folder: str | Path) -> Path:
    """The folder that was named to resume from: a checkpoint, or one with checkpoints; an artifact's are next to it.

    Raises:
        InputError: no checkpoint is there.
    """
    for each in (Path(folder), checkpoint_folder(folder)) if Path(folder).name else (Path(folder),):
        if is_checkpoint(each) or checkpoints(each):
            return each
    raise InputError(f"{folder} has no checkpoint to resume from: name a checkpoint, or a folder with checkpoints")


def to_resume(folder: str | Path, rank: int = 0, processes: int = 1) -> Path:
    """The checkpoint to go on from: the folder itself, or the newest whole one in it, with a warning of later ones.

    Args:
        rank, processes: of the training that goes on.

    Raises:
        InputError: there is none.
        ArtifactError: there is none that is whole; the message says what each lacks.
    """
    folder = Path(folder)
    if is_checkpoint(folder):
        reason = obstacle(folder, rank, processes)
        if reason is not None:
            raise ArtifactError(f"{folder} is not a checkpoint to resume from ({reason}): take another one")
        return folder
    passed: list[str] = []
    for each in checkpoints(folder):
        reason = obstacle(each, rank, processes)
        if reason is None:
            if passed and not rank:
                warnings.warn(f"resumed from {each}, passed over {'; '.join(passed)}", InputWarning, stacklevel=2)
            return each
        passed.append(f"{each.name} ({reason})")
    if passed:
        raise ArtifactError(f"{folder} has no checkpoint to resume from: {'; '.join(passed)}")
    raise InputError(f"{folder} has no checkpoint to resume from: train from the beginning")


# ---- moving --------------------------------------------------------------------------------------------------------


def place(written: Path, target: Path) -> None:
    """Give a whole checkpoint its name; one that has it already is kept until then.

    Args:
        written: in the folder `PARTIAL` next to the target.
    """
    aside = written.with_name(f"removed-{target.name}")
    if target.exists():
        os.replace(target, aside)
    try:
        os.replace(written, target)
    except OSError:
        if aside.exists():
            os.replace(aside, target)
        raise
    sync(target.parent)


def settle(folder: Path) -> None:
    """Clear what a killed training left in a folder of checkpoints; a whole one that lacks its name gets it."""
    for each in checkpoints(folder / PARTIAL):
        if (each / MANIFEST).is_file() and not (folder / each.name).exists():
            place(each, folder / each.name)
    clear(folder)


def clear(folder: Path) -> None:
    """Remove what is half-written in a folder of checkpoints."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; what is half removed has not its name."""
    aside = checkpoint.parent / PARTIAL / f"removed-{checkpoint.name}"
    with suppress(OSError):
        aside.parent.mkdir(exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(checkpoint, aside)
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.rmdir()
