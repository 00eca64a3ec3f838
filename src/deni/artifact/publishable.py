"""Which files of a model may leave the machine, and what is taken out of them: paths, and what tells of the texts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

from deni.artifact.folder import CARD, FOLDS
from deni.artifact.loading import read_info
from deni.artifact.out_of_fold import FILE as OUT_OF_FOLD
from deni.errors import ArtifactError, InputError
from deni.hub.fetching import FILES
from deni.hub.names import hub_id
from deni.inputs import check_model
from deni.models.places import MINILM
from deni.models.reading import ADAPTER, CONFIG, TOKENIZER, check_regular, read_adapter_config, read_json
from deni.outputs import INFO, LIST, SUFFIXES

Kind = Literal["artifact", "adapter", "modules", "model"]

REPORT = "report.html"
# What tells of single training texts: their digests, labels and predictions; the models that left each out; the texts.
OF_TEXTS = (OUT_OF_FOLD, FOLDS, REPORT)
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_ABOUT = ("recipe", "data", "encoders", "distillation")  # parts of `deni.json` that name files and folders
_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in (*SUFFIXES, ".json", ".conll", ".txt") for packed in ("", ".gz"))
_NAMED = ("_name_or_path", "name_or_path")


@dataclass(frozen=True)
class Publishable:
    """A model as it is published, without its card.

    Args:
        kind: an artifact, a PEFT adapter, a folder of sentence-transformers, or a model of transformers.
        files: path -> content, or where it is.
        left_out: files of the folder that stay here.
        info: of `deni.json`, without paths; empty for what is not an artifact.
        base: the hub id of the pre-trained model; None where that is not known.
    """

    kind: Kind
    files: dict[str, bytes | Path]
    left_out: list[str]
    info: dict[str, Any]
    base: str | None


def publishable(folder: Path, base: str | None = None, everything: bool = False) -> Publishable:
    """What of a model is published.

    Args:
        base: the hub id of its pre-trained model; None to take what the folder says, if that is a hub id.
        everything: also `OF_TEXTS`.

    Raises:
        ArtifactError: a folder without a model, or a damaged one.
        InputError: weights that are pickles, or an adapter whose base model is not known.
    """
    kind = kind_of(folder)
    info = read_info(folder) if kind == "artifact" else {}
    base = base_of(folder, kind, info) if base is None else base
    if kind == "adapter" and base is None:
        raise InputError(
            f"{folder} is an adapter of a model in a folder of this machine, which others do not have: give the hub id "
            "of that model with --base-model"
        )
    found = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())
    check_regular(*(folder / name for name in found))
    names = [name for name in found if _is_published(name, kind, info, everything)]
    if not any(name.endswith((".safetensors", ".onnx")) for name in names):
        raise InputError(f"{folder} has no weights in safetensors, and pickles are not pushed: save or export it again")
    files: dict[str, bytes | Path] = {name: _cleaned(folder / name, base) for name in names if name != INFO}
    own = (CARD, LIST, INFO)  # written anew, or of this machine
    left_out = [name for name in found if name not in names and name not in own]
    return Publishable(kind, files, left_out, _without_paths(info, base), base)


def kind_of(folder: Path) -> Kind:
    """What a folder holds; raises ArtifactError where that is no model."""
    if (folder / INFO).is_file():
        return "artifact"
    if (folder / ADAPTER).is_file() and (folder / _ADAPTER_WEIGHTS).is_file():
        return "adapter"
    check_model(folder)
    return "modules" if (folder / "modules.json").is_file() else "model"


def with_info(files: Mapping[str, bytes | Path], info: Mapping[str, Any]) -> dict[str, bytes | Path]:
    """The files of an artifact with its `deni.json`, which lists them."""
    sizes = {name: len(each) if isinstance(each, bytes) else each.stat().st_size for name, each in files.items()}
    listed = {**info, "files": dict(sorted(sizes.items()))}
    return {**files, INFO: f"{json.dumps(listed, indent=1, ensure_ascii=False)}\n".encode()}


def is_of_this_machine(value: Any) -> bool:
    """Whether a value is a path: an absolute one, that of a table, or one that is here.

    >>> is_of_this_machine("/home/me/tickets.csv"), is_of_this_machine("C:\\\\data"), is_of_this_machine("a/model")
    (True, True, False)
    """
    if not isinstance(value, str):
        return False
    absolute = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()
    return absolute or value.startswith(("~", "./", "../")) or value.endswith(_SUFFIXES) or os.path.exists(value)


def base_of(folder: Path, kind: Kind, info: Mapping[str, Any]) -> str | None:
    """The hub id of a model's base model, as its folder names it; None where that is a path, or not said."""
    named = info.get("recipe", {}).get("model")
    if kind == "adapter":
        named = read_adapter_config(folder).base_model_name_or_path
    return MINILM if named == "minilm" else hub_id(named)


def _is_published(name: str, kind: Kind, info: Mapping[str, Any], everything: bool) -> bool:
    inner, file = "/" in name, name.rpartition("/")[2]
    if name in (CARD, LIST) or any(part.startswith(".") for part in name.split("/")) or (inner and kind != "modules"):
        return False
    if name in OF_TEXTS:
        return everything and kind == "artifact"
    listed = info.get("files")
    ours = listed is None or name in listed or name in (TOKENIZER, CONFIG, ADAPTER)
    return (ours and file != CARD and any(fnmatch(file, pattern) for pattern in FILES)) or name == INFO


def _cleaned(file: Path, base: str | None) -> bytes | Path:
    """The content of a file without the paths in it; the file itself, if there are none."""
    if file.name not in (CONFIG, ADAPTER, "tokenizer_config.json"):
        return file
    values = read_json(file)
    cleaned = {name: value for name, value in values.items() if name not in _NAMED or not is_of_this_machine(value)}
    if file.name == ADAPTER:
        cleaned["base_model_name_or_path"] = base
    return file if cleaned == values else f"{json.dumps(cleaned, indent=2, ensure_ascii=False)}\n".encode()


def _without_paths(info: Mapping[str, Any], base: str | None) -> dict[str, Any]:
    """The content of `deni.json` with the names of files and folders left out."""
    cleaned = {name: _stripped(value) if name in _ABOUT else value for name, value in info.items() if name != "files"}
    if "recipe" in cleaned:
        cleaned["recipe"] = {**cleaned["recipe"], **({} if base is None else {"model": base})}
    return cleaned


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(each) for name, each in value.items() if not is_of_this_machine(each)}
    if isinstance(value, list):
        return [_stripped(each) for each in value if not is_of_this_machine(each)]
    return value


def check_name(name: str) -> None:
    """Raise ArtifactError where a repository is not named `user/name`."""
    from deni.hub.names import split_id

    model, revision = split_id(name)
    if revision is not None or hub_id(model) is None or "/" not in model:
        raise ArtifactError(f"{name} is not user/name: name the user or organization, and the model")
