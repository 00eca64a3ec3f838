"""Push a model to the hub: without training texts, paths and pickles, and with a model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

from deni.artifact.folder import CARD
from deni.artifact.hub_card import exported_card, hub_card
from deni.artifact.publishable import Publishable, check_name, publishable, with_info
from deni.errors import SettingError, short
from deni.hub.fetching import read_card
from deni.hub.names import hub_id
from deni.hub.uploading import upload
from deni.inputs import check_model
from deni.models.reading import ADAPTER, CONFIG, read_config, read_json, told
from deni.tasks import find_task

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_HEADS = ("classifier.weight", "score.weight", "out_proj.weight", "dense.weight")


@dataclass(frozen=True)
class Pushed:
    """What was pushed.

    Args:
        commit: as `huggingface_hub` describes it; None where nothing was sent.
        files: path -> bytes.
        left_out: files of the folder that stayed here.
        card: the model card.
    """

    commit: CommitInfo | None
    files: dict[str, int]
    left_out: list[str]
    card: str


def push(
    model: str | Path,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    everything: bool = False,
    base_model: str | None = None,
    dataset: str | None = None,
    language: Sequence[str] = (),
    license: str | None = None,
    message: str = "Upload model",
    token: str | None = None,
    dry_run: bool = False,
    progress: bool = False,
) -> Pushed:
    """Push a model to the hub, with a model card; `deni.load(name)` reads it.

    What tells of single training texts stays here: out-of-fold predictions, models of the folds, the report. Nor do
    names of files and folders, or pickles, leave the machine. A push replaces the model that is there, in one commit.

    Args:
        model: what `deni train` or `deni export` wrote, or another folder with a model or an adapter.
        name: `user/name`.
        private: make a private repository.
        revision: the branch to push to; None for the main one.
        everything: also push what tells of single training texts.
        base_model: the hub id of the pre-trained model, where it was trained from a folder.
        dataset: the hub id of the labeled texts, where they are published.
        language: of the texts, such as `en`; none for that of the base model's card.
        license: None for that of the base model's card.
        message: of the commit.
        token: None for that of the hub's own login or `HF_TOKEN`.
        dry_run: send nothing.
        progress: whether to show a bar on standard error.

    Raises:
        ArtifactError: a folder without a model, a damaged one, or a name that is not `user/name`.
        InputError: pickled weights, an adapter whose base model is not known, or what the hub refuses.
        SettingError: a base model or dataset that is not a hub id.
    """
    check_name(name)
    for given, flag in ((base_model, "base_model"), (dataset, "dataset")):
        if given is not None and hub_id(given) is None:
            raise SettingError(f"{flag} must be a hub id such as user/name, not {short(given)}")
    folder = Path(model)
    if not (folder / ADAPTER).is_file():
        check_model(folder)
    found = publishable(folder, base_model, everything)
    about = read_card(found.base) if found.base else {}
    text = hub_card(
        name,
        found,
        **_outputs(folder, found),
        dataset=dataset,
        language=language,
        license=license,
        base_card=about,
        exported=None if found.kind == "artifact" else exported_card(folder),
    )
    files = {**found.files, CARD: text.encode()}
    if found.kind == "artifact":
        files = with_info(files, found.info)
    sizes = {path: len(each) if isinstance(each, bytes) else each.stat().st_size for path, each in files.items()}
    commit = None
    if not dry_run:
        options: dict[str, Any] = {"private": private, "revision": revision, "message": message, "token": token}
        commit = upload(name, files, **options, progress=progress)
    return Pushed(commit, dict(sorted(sizes.items())), found.left_out, text)


def _outputs(folder: Path, model: Publishable) -> dict[str, Any]:
    """What is known of the outputs of a model that is not an artifact."""
    if model.kind == "model" or (model.kind == "adapter" and (folder / CONFIG).is_file()):
        config = read_config(folder)
        of_words = any("TokenClassification" in each for each in config.architectures or ())
        kind = "token" if of_words else config.problem_type
        labels = [str(config.id2label[at]) for at in range(config.num_labels)]
        return {"labels": labels, "task": _task(kind, config.num_labels), "outputs": len(labels)}
    if model.kind == "adapter":
        of_words = read_json(folder / ADAPTER).get("task_type") == "TOKEN_CLS"
        file = folder / "adapter_model.safetensors"
        with told(file), safe_open(file, "numpy") as opened:
            names = [each for each in opened.keys() if each.endswith(_HEADS) and "lora_" not in each]  # noqa: SIM118
            shapes = [opened.get_slice(each).get_shape() for each in names[-1:]]
        return {"task": _task("token" if of_words else None, 2), "outputs": shapes[0][0] if shapes else None}
    return {}


def _task(problem: str | None, outputs: int) -> str:
    """The task that transformers means by a problem type."""
    kinds = {"token": "token", "regression": "regression", "multi_label_classification": "multi_label"}
    return find_task(kinds.get(problem or "", "regression" if outputs == 1 else "single_label")).name
