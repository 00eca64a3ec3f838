"""The folder of a model: one that is here, or a download from the hub without anything that could run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deni.errors import ArtifactError, SettingError
from deni.hub.failures import patiently, reading
from deni.hub.names import is_model_id, split_id

# What a model can have at the top of its repository. Code, pickles and whatever else is there are not downloaded.
WEIGHTS = ("*.safetensors", "*.onnx", "*.onnx.data")
FILES = (*WEIGHTS, "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt", "README.md")


def local_folder(model: str | Path, revision: str | None = None) -> Path:
    """The folder of a model; that of a hub id, `user/name` or `user/name@revision`, is downloaded into the hub's cache.

    Args:
        model: a folder that is here comes before a hub id; a `Path` is never one.
        revision: a branch, a tag or a commit.

    Raises:
        ArtifactError: no such model or revision, no access, no network, or no weights that can be read without pickle.
        SettingError: a revision of a folder, or two different ones.
    """
    if not isinstance(model, str) or not is_model_id(model):
        if revision is not None:
            raise SettingError(f"revision {revision!r} is of a model of the hub, and {model} is none: omit it")
        return Path(model)
    name, pinned = split_id(model)
    if revision is not None and pinned not in (None, revision):
        raise SettingError(f"{model} names another revision than {revision!r}: give one of them")
    return download(name, revision or pinned)


def download(name: str, revision: str | None = None) -> Path:
    """The folder in the hub's cache of a model, after what of it is not there was downloaded.

    Args:
        name: its id on the hub.
        revision: see `local_folder`.

    Raises:
        ArtifactError: as of `local_folder`.
    """
    import huggingface_hub
    from tqdm.auto import tqdm

    from deni import __version__

    class Bar(tqdm):
        """A bar on a terminal only."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": None, "leave": False})

    def fetch() -> str:
        return huggingface_hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(FILES),
            ignore_patterns=["*/*"],
            tqdm_class=Bar,
            library_name="deni",
            library_version=__version__,
        )

    with reading(name, revision):
        folder = Path(patiently(fetch))
    if not any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        raise ArtifactError(
            f"{name} on the hub has no weights that deni reads (safetensors; never pickles): choose another model"
        )
    return folder


def read_card(model: str) -> dict[str, Any]:
    """The data of a model's card on the hub; empty where there is none, or the hub does not answer.

    Args:
        model: its id.
    """
    import huggingface_hub

    try:
        return dict(huggingface_hub.ModelCard.load(model, ignore_metadata_errors=True).data.to_dict())
    except Exception:  # a card is made without it: no network, no access, YAML that cannot be read
        return {}
