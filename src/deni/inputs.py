"""Whether the files and folders that a command names are there: checked before anything large is imported."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deni.errors import ArtifactError, InputError
from deni.hub.names import is_model_id
from deni.outputs import INFO


def missing(file: Path) -> InputError:
    """The error for a file that is not there: what its folder has of a similar name."""
    if not os.path.isdir(file.parent):  # of no name, however long or odd, does os.path raise an error
        return InputError(f"{file}: no such file, and no folder {file.parent}; check the path")
    near = difflib.get_close_matches(file.name, sorted(each.name for each in file.parent.iterdir()))
    hint = f"did you mean {' or '.join(str(file.parent / name) for name in near)}?" if near else "check the path"
    return InputError(f"{file}: no such file; {hint}")


def check_file(path: str | Path | None) -> None:
    """Raise InputError where a file is missing or a folder; `-` is standard input, None no file at all."""
    if path is None or str(path) == "-":
        return
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; name a file in it")
    if not os.path.exists(path):
        raise missing(Path(path))


def check_store(path: str | Path) -> None:
    """Raise InputError where a study's store, or its archive, is missing."""
    if not os.path.exists(path):
        raise InputError(f"{path}: no such store: check the path; `deni study run` makes one")


def check_named_model(model: str | Path, revision: str | None = None) -> None:
    """As `check_model`; a model of the hub is looked for when it is loaded.

    Args:
        revision: of a model of the hub, see `deni.hub.fetching.local_folder`.
    """
    if not is_model_id(model):
        if revision is not None:
            raise InputError(f"--revision is of a model of the hub, and {model} is none: omit it")
        check_model(model)


def check_model(folder: str | Path, files: Sequence[str] = (INFO, "config.json")) -> None:
    """Raise ArtifactError where a folder is missing, or has no trained model.

    Args:
        files: one of these must be in it: an artifact has the first one, a transformers model the second.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise ArtifactError(
            f"{folder} is not a folder: give the folder that `deni train --output` wrote{_or_a_hub_id(folder)}"
        )
    if not any((folder / name).is_file() for name in files):
        raise ArtifactError(f"{folder} has no {INFO}{_hint(folder)}")


def _or_a_hub_id(folder: Path) -> str:
    """What else a missing folder may be meant as."""
    if len(folder.parts) != 2 or not os.path.exists(folder.parent):
        return ""
    return f" (the hub is not asked, since there is a folder {folder.parent})"


def _hint(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return (
            " and no config.json, but a PEFT adapter, which does not say what its labels are: export it again, or load "
            "it with PEFT, AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=...)"
        )
    members = sorted(each.name for each in folder.glob("member-*"))
    if members:
        return f": give one of its members, such as {folder / members[0]}"
    return " and no config.json: give the folder that `deni train --output` wrote, or one of a transformers model"


def check_pretrained(model: str | None) -> None:
    """Raise InputError where a pre-trained model is named by a path, which no Hub id can be, and is not there.

    Of several to choose among, `auto:A,B`, each is checked.
    """
    for each in candidates(model or ""):
        check_pretrained(each)
    if candidates(model or ""):
        return
    if model is None or os.path.isdir(model):
        return
    if Path(model).is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise InputError(f"model {model!r} cannot be loaded: no such folder (give a folder or a hub id)")


AUTO_MODEL = "auto:"  # what a choice among models begins with


def candidates(model: str) -> list[str]:
    """The models to choose among in `auto:A,B,C`; none where one model is named.

    Raises:
        InputError: fewer than two, or one of them twice.

    >>> candidates("auto:minilm,bert-base-uncased"), candidates("minilm")
    (['minilm', 'bert-base-uncased'], [])
    """
    return distinct_models(model.removeprefix(AUTO_MODEL).split(",")) if model.startswith(AUTO_MODEL) else []


def distinct_models(names: Sequence[str]) -> list[str]:
    """The names without blanks; raises InputError where there are fewer than two, or one twice."""
    found = [name.strip() for name in names if name.strip()]
    if len(found) < 2:
        given = f"only {found[0]!r}" if found else "none"
        raise InputError(f"{given} to choose among: name two models or more, with commas between them")
    if twice := next((name for at, name in enumerate(found) if name in found[:at]), None):
        raise InputError(f"model {twice!r} is named twice: name each once")
    return found


def check_one_training(given: Mapping[str, Any], pool: str) -> None:
    """Refuse what only one training can have, where texts without labels make it several.

    Args:
        given: arguments or flags by their names; None where they were not given.
        pool: the name of the argument or flag that gives the pool.

    Raises:
        InputError: something was given.
    """
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name} is for one training, and {pool} has several (teacher, folds, student): omit it, or "
                "train the teacher alone (deni train), and the student with deni distil"
            )
