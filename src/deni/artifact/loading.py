"""Read an artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from deni._version import __version__
from deni.artifact import format_1, schema
from deni.artifact.classifier import Classifier
from deni.artifact.folder import BASE, FOLDS, FORMAT, IDS, MEMBERS
from deni.artifact.out_of_fold import read_out_of_fold
from deni.artifact.plain import is_plain, load_plain
from deni.artifact.scope import read_scope
from deni.artifact.skeleton import Misfit, fill, skeleton
from deni.engine.active_tokens import activate
from deni.engine.fold import trainable_slots
from deni.engine.layers import Unstackable
from deni.errors import ArtifactError, InputError, SettingError, short
from deni.hub.fetching import local_folder
from deni.inputs import check_model
from deni.models.devices import find_device
from deni.models.hugging_face import config_of
from deni.models.pooling import Pooling, attach
from deni.models.reading import AGAIN, CONFIG, check_regular, read_json, read_tokenizer, told
from deni.outputs import INFO
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.tasks import DEFAULT, TASKS


def read_info(folder: str | Path) -> dict[str, Any]:
    """The content of `deni.json`, converted to the format of this version.

    Raises:
        ArtifactError: a folder that is not an artifact, is damaged, or was written by a later version.
    """
    folder = Path(folder)
    check_model(folder, [INFO])
    file = folder / INFO
    info = read_json(file)
    written = schema.check_format(info, file)
    if written > FORMAT:
        raise ArtifactError(
            f"{folder} was written by deni {short(info.get('deni', '?'))} in format {written}, this is deni "
            f"{__version__} and reads up to {FORMAT}: upgrade with pip install --upgrade deni"
        )
    schema.check_given(info, file)
    if written == 1:
        info = format_1.converted(info)
    schema.check_info(info, file)
    if info.setdefault("task", DEFAULT) not in TASKS:
        raise ArtifactError(f"{file}: task {short(info['task'])} is not there: import what registers it")
    return info


def load(
    folder: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    model_init: Callable[[], nn.Module] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    calibrated: bool = True,
    revision: str | None = None,
) -> Classifier:
    """Load an artifact, its ONNX graph, or an ordinary model of transformers that classifies.

    Code from the folder is never run.

    Args:
        folder: what `save` or `export` wrote (an adapter is read with its base model), or another folder with a model
            for sequence or token classification; or such a model of the hub, `user/name` or `user/name@revision`. A
            folder that is here comes first.
        device: where to compute, see `deni.models.devices.find_device`; None for a GPU if there is one.
        dtype: of the weights; None as they were trained.
        model_init: makes the model, where that is one of the user's own, whose class no folder holds; the weights are
            those of the artifact.
        tokenizer: of the model, where it was saved without one.
        calibrated: whether its probabilities are calibrated, where it was trained so that they can be.
        revision: a branch, a tag or a commit of a model of the hub.

    Raises:
        ArtifactError: a folder that is not an artifact, is damaged, was written by a later version, or needs
            `model_init`, or another one.

    Example: `deni.load("model/")("where is my parcel")`.
    """
    target = find_device(device)
    folder = local_folder(folder, revision)
    if is_plain(folder):
        return load_plain(folder, target, dtype)
    info = read_info(folder)
    if "onnx" in info:
        return _load_graph(folder, info, device, dtype, tokenizer, calibrated)
    if (needs := info.get("needs")) and model_init is None:
        raise ArtifactError(
            f"{folder} does not hold the code of its model ({needs}): give the function that makes it, "
            "deni.load(folder, model_init=...)"
        )
    if not needs and not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder / 'config.json'} is missing: {AGAIN}")
    file = folder / MEMBERS
    population = _built(folder, info, _read(file, info), file, target, dtype, model_init)
    if TASKS[info["task"]].generates:
        from deni.artifact.generator import TextGenerator

        return TextGenerator(population, tokenizer or _tokenizer(folder), info, folder)  # type: ignore[return-value]
    return Classifier(
        population,
        tokenizer or _tokenizer(folder),
        info["labels"],
        info,
        source=folder,
        calibrated=calibrated,
        out_of_fold=read_out_of_fold(folder),
        labeled=read_scope(folder),
    )


def _load_graph(
    folder: Path,
    info: dict[str, Any],
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    tokenizer: PreTrainedTokenizerBase | None,
    calibrated: bool,
) -> Classifier:
    """An exported ONNX graph, see `deni.artifact.onnx`."""
    from deni.artifact.onnx.reading import load_graph

    if device is not None and str(device) not in ("cpu", "auto"):
        raise InputError(f"{folder} is an ONNX graph, which is computed on cpu, not on {device}: omit the device")
    if dtype is not None:
        raise InputError(f"{folder} is an ONNX graph, whose weights have their type: omit dtype")
    return load_graph(folder, info, tokenizer or _tokenizer(folder), calibrated)


def load_folds(
    folder: Path, info: dict[str, Any], device: torch.device, dtype: torch.dtype | None
) -> Population | None:
    """The models of the folds of an artifact, run by run; None where they were not kept.

    Args:
        info: of the artifact, see `read_info`.
        device, dtype: as those of the artifact's members.
    """
    file = folder / FOLDS
    if not file.is_file():
        if FOLDS in info.get("files", {}):
            raise ArtifactError(f"{file} is missing: {AGAIN}")
        return None
    members = _read(file, info)
    size = max((len(value) for name, value in members.items() if not name.endswith(IDS) and value.ndim), default=0)
    return _built(folder, {**info, "runs": size // info["members"]}, members, file, device, dtype)


def _built(
    folder: Path,
    info: dict[str, Any],
    members: dict[str, Tensor],
    file: Path,
    target: torch.device,
    dtype: torch.dtype | None,
    model_init: Callable[[], nn.Module] | None = None,
) -> Population:
    """The members of a file of an artifact, on a device.

    Args:
        info: says how many there are.
        members: the tensors of the file.
    """
    base = _read(folder / BASE, info)
    schema.check_members(members, base, info, file)
    if info.get("dtype", "float32") == "float32":  # what was saved before it was stated, too
        members, base = _in_float32(members), _in_float32(base)
    if model_init is None:
        bi = info.get("pairs") == "bi"
        try:
            with told(folder):
                task = TASKS[info["task"]]
                model = skeleton(folder, task.of_words, info.get("files"), bi, task.generates)
        except SettingError as error:
            raise ArtifactError(f"{folder / INFO}: pairs does not fit the model ({error}): {AGAIN}") from error
        if not task.generates:
            _check_labels(model, info, folder)
    else:
        with global_generators(0):
            model = model_init()
    if "pooling" in info:
        try:
            with told(folder):
                attach(model, Pooling.of(info["pooling"]))
        except SettingError as error:
            raise ArtifactError(f"{folder / INFO}: pooling does not fit the model ({error}): {AGAIN}") from error
    ids = {name.removesuffix(IDS): members.pop(name) for name in list(members) if name.endswith(IDS)}
    runs, size = info["runs"], info["runs"] * info["members"]
    first = [{name: value[run * (size // runs)] for name, value in members.items()} for run in range(runs)]
    tables = {name: base[name] for name in ids if name in base}
    try:
        fill(model, {**base, **first[0], **tables}, members.keys())
    except Misfit as misfit:
        made = "model_init makes another model than that" if model_init else "the model does not fit:"
        raise ArtifactError(f"{folder}: {made} {misfit}") from misfit
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    schema.check_finite(members, file)
    schema.check_finite({name: value for name, value in base.items() if name in parameters}, folder / BASE)
    for name in tables:
        if activate(model, ids[name]) != [name] or model.get_parameter(name).shape != members[name].shape[1:]:
            raise ArtifactError(f"{file}: {name}{IDS} does not fit the embeddings of {CONFIG}: {AGAIN}")
    slots = trainable_slots(model)
    if slots.keys() - members.keys():
        raise ArtifactError(f"{file}: {min(slots.keys() - members.keys())} is missing: {AGAIN}")
    for name, places in slots.items():
        parameter = nn.Parameter(first[0][name])  # one for all places: tied ones stay tied
        for module, key in places:
            module._parameters[key] = parameter
    model.eval()
    with told(folder):
        population = _population(model, {name: members[name] for name in slots}, first, runs, size // runs)
    if info["engine"] == "loop":
        population.module.choose("loop")
    population.module.eval()
    if target.type != "cpu" or dtype is not None:
        population.module.to(device=target, dtype=dtype)
    return population


def _population(
    model: nn.Module, values: dict[str, Tensor], first: list[dict[str, Tensor]], runs: int, members: int
) -> Population:
    """The members, stacked where that is possible, with the tensors of the file.

    Args:
        values: M of each trainable parameter.
        first: the first member of each run.
    """
    sources = [Sources(run) for run in range(runs)]
    try:
        population = Population(model, sources, "stacked", first[1:])
        population.replace(values, members, copy=False)
    except Unstackable:
        population = Population(model, sources, "loop", first[1:])
        population.replace(values, members, copy=False)
    return population


def _check_labels(model: nn.Module, info: dict[str, Any], folder: Path) -> None:
    """Raise ArtifactError where the model has another number of outputs than there are labels."""
    outputs, labels = getattr(config_of(model), "num_labels", None), len(info["labels"])
    if outputs is not None and outputs != labels:
        raise ArtifactError(
            f"{folder / INFO}: labels has {labels} names, {folder / CONFIG} says {outputs} outputs: {AGAIN}"
        )


def _read(path: Path, info: dict[str, Any]) -> dict[str, Tensor]:
    check_regular(path)
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: {AGAIN}")
    schema.check_listed(info, path)
    with told(path):
        return load_file(path)


def _tokenizer(folder: Path) -> Any:
    file = folder / "tokenizer_config.json"
    if not file.exists():
        raise ArtifactError(f"{folder} has no tokenizer: give the one of its model, deni.load(folder, tokenizer=...)")
    settings = read_json(file)
    # transformers 5 writes this name where there is no class for the model; 4 does not know it.
    unnamed = settings.get("tokenizer_class") == "TokenizersBackend"
    return read_tokenizer(folder, PreTrainedTokenizerFast if unnamed else None)


def _in_float32(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
