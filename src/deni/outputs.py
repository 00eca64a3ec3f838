"""Where results may be written: checked before any work, and before anything large is imported."""

from __future__ import annotations

import os
from pathlib import Path

from deni.errors import InputError

INFO = "deni.json"  # of an artifact
SUFFIXES, CONLL = (".csv", ".tsv", ".jsonl", ".parquet"), ".conll"


def check_free(target: str | Path, overwrite: bool) -> None:
    """Raise InputError where `target` exists and may not be overwritten: only models and empty folders may."""
    target = Path(target)
    if not target.exists():
        return
    if not overwrite:
        raise InputError(f"{target} exists: choose another folder or give --overwrite")
    models = (INFO, "config.json", "adapter_config.json", "member-0")
    if not target.is_dir() or not (_is_empty(target) or any((target / name).exists() for name in models)):
        raise InputError(f"{target} is not a model and is not overwritten: choose another folder")


def check_outside(target: str | Path, *kept: str | Path) -> None:
    """Raise InputError where overwriting `target` would take away one of the files or folders to be kept."""
    for path in kept:
        if Path(path).exists() and Path(path).resolve().is_relative_to(Path(target).resolve()):
            raise InputError(f"{path} is in {target}, which would be overwritten: choose another folder")


def _is_empty(folder: Path) -> bool:
    return next(folder.iterdir(), None) is None


def check_writable(target: str | Path) -> None:
    """Raise InputError where no file or folder can be made there; folders on the way may be missing."""
    parent = Path(target).absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{target} cannot be written: {parent} is not writable, choose another place")


def check_output(output: str | Path, overwrite: bool, words: bool = False) -> None:
    """Check before any work that rows can be written there; `-` is standard output.

    Args:
        words: whether each row has words and their tags, which CoNLL needs.

    Raises:
        InputError: another suffix, a folder, or a file that exists without `overwrite`.
    """
    if format_of(output) == CONLL and not words:
        raise InputError(f"{output}: a CoNLL file has a tag for each word, which there is not: write {_listed()}")
    if Path(output).exists() and not overwrite:
        raise InputError(f"{output} exists: choose another file or give --overwrite")
    if Path(output).is_dir():
        raise InputError(f"{output} is a folder: name a file in it")
    if str(output) != "-":
        check_writable(output)


def format_of(output: str | Path) -> str:
    """The suffix without `.gz`, `.csv` for standard output; raises an InputError for an unknown one."""
    if str(output) == "-":
        return ".csv"
    path = Path(output)
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in (*SUFFIXES, CONLL):
        raise InputError(f"{path}: unknown suffix {suffix!r}, write {_listed()} (.gz works, too)")
    return suffix


def _listed() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
