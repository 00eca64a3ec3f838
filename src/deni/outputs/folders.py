"""Which folders may be replaced: those with nothing in them but what deni wrote, by the list that they have of it.

An artifact has its list in `deni.json`, under `files`; any other folder that deni writes in `deni-files.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from deni.errors import InputError, shown
from deni.outputs.names import check_name, is_same, is_within
from deni.outputs.trying import try_folder
from deni.outputs.unfinished import remove_leftovers
from deni.written import written_text

INFO = "deni.json"  # of an artifact
LIST = "deni-files.json"  # of any other folder
MOST = 3  # foreign files that a message names

# What artifacts hold that were written before they had a list.
UNLISTED = frozenset(
    (
        *("population.safetensors", "base.safetensors", "adapters.json", "adapter_config.json", "config.json"),
        *("README.md", "report.html", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("added_tokens.json", "chat_template.jinja", "vocab.txt", "vocab.json", "merges.txt", "spiece.model"),
        *("sentencepiece.bpe.model", "tokenizer.model", "spm.model"),
    )
)


def check_folder(target: str | Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> Path:
    """Check before any work that a folder can be written, and that nothing is lost by it.

    Args:
        overwrite: whether it may replace a folder with files that deni wrote, and no others.
        inputs: files and folders that are read: none may be the folder or in it.

    Raises:
        InputError: an impossible name (see `check_name`), a link, a folder that holds the working or the home
            directory, an input or what deni did not write, one that exists without `overwrite`, or that cannot be
            written.
    """
    path = _check_place(target, inputs)
    if not path.exists():
        try_folder(path)
        return path
    if not overwrite:
        raise InputError(f"{target} exists: choose another folder or give --overwrite")
    if not path.is_dir():
        raise InputError(f"{target} is a file and is not overwritten: choose another folder")
    if os.path.ismount(path):
        raise InputError(f"{target} is a disk of its own, which no folder can replace: name a folder in it")
    remove_leftovers(path)
    if foreign := foreign_files(path):
        names = [f"{name}, changed since" if changed else name for name, changed in foreign.items()]
        raise InputError(
            f"{target} has what deni did not write and is not overwritten ({shown(names, MOST)}): move that away, or "
            "choose another folder"
        )
    try_folder(path)
    return path


def check_figures(target: str | Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> Path:
    """Check before any work that files can be put into a folder, which may have other ones.

    Raises:
        InputError: an impossible name, a link, a file, an input, files of an earlier call without `overwrite`, or a
            folder that cannot be written.
    """
    path = check_name(target)
    if path.is_symlink():
        raise InputError(f"{target} is a link to {os.readlink(path)}: name the folder itself")
    if path.exists() and not path.is_dir():
        raise InputError(f"{target} is a file: name a folder for the figures")
    for given in inputs:
        if given is not None and is_same(path, given):
            raise InputError(f"{target} is what is read: choose another folder")
    earlier = sorted(name for name in listed(path, LIST) - {LIST} if (path / name).exists())
    if earlier and not overwrite:
        raise InputError(f"{path / earlier[0]} exists: choose another folder or give --overwrite")
    try_folder(path / "figures" if path.exists() else path)
    return path


def _check_place(target: str | Path, inputs: Iterable[str | Path | None]) -> Path:
    path = check_name(target)
    if path.is_symlink():
        raise InputError(f"{target} is a link to {os.readlink(path)}: name the folder itself")
    for kept, what in _homes():
        if is_within(kept, path):
            raise InputError(f"{target} {'is' if is_same(path, kept) else 'holds'} {what}: name a folder in it")
    for given in inputs:
        if given is not None and is_same(path, given):
            raise InputError(f"{target} is what is read: choose another folder")
        if given is not None and is_within(given, path):
            raise InputError(f"{given} is in {target}, which would be overwritten: choose another folder")
    return path.resolve() if path.name == ".." else path


def _homes() -> Iterator[tuple[Path, str]]:
    with suppress(OSError):  # it was removed
        yield Path.cwd(), "the working directory"
    with suppress(RuntimeError):  # there is none
        yield Path.home(), "your home directory"


def foreign_files(folder: Path) -> dict[str, bool]:
    """What is in a folder and was not written by deni: sorted paths, and whether deni's own file was there before.

    A folder is one entry, with a slash at its end. Nothing that is a link was written by deni.
    """
    own = files_of(folder)
    above = {parent.as_posix() for name in own for parent in Path(name).parents}

    def walk(inside: Path, name: str) -> Iterator[tuple[str, bool]]:
        for entry in os.scandir(inside):
            path = f"{name}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if path in above:
                    yield from walk(inside / entry.name, f"{path}/")
                else:
                    yield f"{path}/", False
            elif path not in own or not entry.is_file(follow_symlinks=False):
                yield path, False
            elif own[path] not in (None, entry.stat(follow_symlinks=False).st_size):
                yield path, True

    return dict(sorted(walk(folder, "")))


def listed(folder: Path, name: str) -> set[str]:
    """The files of a list in a folder, and the list itself, by their paths in it; none without that list."""
    content = _read(folder / name)
    if content is None or not isinstance(content.get("files"), dict):
        return set()
    return {name, *(file for file in content["files"] if not Path(file).is_absolute() and ".." not in Path(file).parts)}


def files_of(folder: Path) -> dict[str, int | None]:
    """The files that deni wrote into a folder, and their sizes where they are known."""
    own: dict[str, int | None] = {}
    for name in (INFO, LIST):
        content = _read(folder / name)
        if content is None or (name == INFO and "format" not in content):
            continue
        if isinstance(content.get("files"), dict):
            found = listed(folder, name)
            own |= {file: size for file, size in content["files"].items() if file in found}
        elif name == INFO:  # written before there were lists
            own |= dict.fromkeys(UNLISTED)
        own[name] = None
    return own


def _read(file: Path) -> dict[str, Any] | None:
    """A JSON object in a file; None where there is none."""
    try:
        content = json.loads(written_text(file))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file in a folder, by its path in it: what a list has."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def write_list(folder: Path) -> None:
    """Write the list of the files in a folder, so that a later call knows them as deni's."""
    content = json.dumps({"files": sizes(folder)}, indent=1, ensure_ascii=False)
    (folder / LIST).write_text(f"{content}\n", encoding="utf-8")
