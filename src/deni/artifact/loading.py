"""Read an artifact."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from deni._version import __version__
from deni.artifact import format_1
from deni.artifact.classifier import Classifier
from deni.artifact.folder import ADAPTERS, BASE, FORMAT, IDS, MEMBERS
from deni.artifact.info import check
from deni.artifact.plain import is_plain, load_plain
from deni.engine.active_tokens import activate
from deni.engine.fold import trainable_slots
from deni.engine.layers import Unstackable
from deni.errors import ArtifactError
from deni.inputs import check_model
from deni.models.architectures import auto_class
from deni.models.devices import find_device
from deni.outputs import INFO
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.tasks import DEFAULT, TASKS
from deni.tuning.unipelt import adapted


def read_info(folder: str | Path) -> dict[str, Any]:
    """The content of `deni.json`, converted to the format of this version.

    Raises:
        ArtifactError: a folder that is not an artifact, is damaged, or was written by a later version.
    """
    folder = Path(folder)
    check_model(folder, [INFO])
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        written = int(info["format"])
        if written == 1:
            info = format_1.converted(info)
        if written <= FORMAT:
            check(info)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{folder / INFO} is damaged ({error}): copy or train the model again") from error
    if written > FORMAT:
        raise ArtifactError(
            f"{folder} was written by deni {info.get('deni', '?')} in format {written}, this is deni {__version__} "
            f"and reads up to {FORMAT}: upgrade with pip install --upgrade deni"
        )
    if info.get("task", DEFAULT) not in TASKS:
        raise ArtifactError(f"{folder} is of the task {info['task']!r}, which is not there: import what registers it")
    return info


def load(folder: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Classifier:
    """Load an artifact, or an ordinary model of transformers that classifies; never runs code from the folder.

    Args:
        folder: what `save` or `export` wrote, or another folder with a model for sequence or token classification.
        device: where to compute, see `deni.models.devices.find_device`; None for a GPU if there is one.
        dtype: of the weights; None as they were saved.

    Raises:
        ArtifactError: a folder that is not an artifact, is damaged, or was written by a later version.

    Example: `deni.load("model/")("where is my parcel")`.
    """
    folder, target = Path(folder), find_device(device)
    if is_plain(folder):
        return load_plain(folder, target, dtype)
    info = read_info(folder)
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder / 'config.json'} is missing: copy or train the model again")
    members, base = _read(folder / MEMBERS), _read(folder / BASE)
    model = _skeleton(folder, info)
    in_members = {name.removesuffix(IDS) for name in members}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in in_members)
    for name, ids in [(name, members.pop(name)) for name in list(members) if name.endswith(IDS)]:
        model.get_parameter(name.removesuffix(IDS)).data.copy_(base[name.removesuffix(IDS)])
        activate(model, ids)
    slots = trainable_slots(model)
    missing = sorted(set(slots) - set(members)) + sorted(
        set(model.state_dict()) - set(slots) - set(base) - _tied(model, slots)
    )
    if missing:
        raise ArtifactError(f"{folder} is incomplete: {missing[0]} is missing; copy or train the model again")
    state = model.state_dict()
    with torch.no_grad():
        for name, value in base.items():
            if name in state and name not in slots:
                state[name].copy_(value)
    runs, size = int(info["runs"]), len(next(iter(members.values())))
    model.eval()
    sources = [Sources(run) for run in range(runs)]
    first = [{name: members[name][run * (size // runs)] for name in slots} for run in range(runs)]
    for name, places in slots.items():
        for module, key in places:
            module._parameters[key].data = first[0][name].clone()  # type: ignore[union-attr]
    try:
        population = Population(model, sources, "stacked", first[1:])
        population.replace({name: members[name] for name in slots}, size // runs)
    except Unstackable:
        population = Population(model, sources, "loop", first[1:])
        population.replace({name: members[name] for name in slots}, size // runs)
    if info["engine"] == "loop":
        population.module.choose("loop")
    population.module.eval()
    if target.type != "cpu" or dtype is not None:
        population.module.to(device=target, dtype=dtype)
    return Classifier(population, _tokenizer(folder), info["labels"], info)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: copy or train the model again")
    try:
        return load_file(path)
    except Exception as error:  # safetensors has its own error class
        raise ArtifactError(f"{path} is truncated or damaged ({error}): copy or train the model again") from error


def _tokenizer(folder: Path) -> Any:
    file = folder / "tokenizer_config.json"
    settings = _read_json(file) if file.is_file() else {}
    # transformers 5 writes this name where there is no class for the model; 4 does not know it.
    unnamed = settings.get("tokenizer_class") == "TokenizersBackend"
    return _without_code(PreTrainedTokenizerFast if unnamed else AutoTokenizer, folder)


def _without_code(kind: Any, folder: Path) -> Any:
    """The folder's configuration or tokenizer. On a terminal the default would ask whether to run the folder's code."""
    try:
        return kind.from_pretrained(folder, trust_remote_code=False)
    except ValueError as error:
        first = str(error).strip().splitlines()[0]
        raise ArtifactError(f"{folder} cannot be loaded ({first}); code from the folder is never run") from error


def _skeleton(folder: Path, info: Mapping[str, Any]) -> nn.Module:
    """The model's shape with the right parameters trainable; its values are put in by the caller."""
    with global_generators(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = _without_code(AutoConfig, folder)
        model = auto_class(TASKS[info["task"]].of_words).from_config(config).to(torch.float32)
        if (folder / "adapter_config.json").is_file():
            from peft import PeftConfig, get_peft_model

            peft_config = PeftConfig.from_pretrained(str(folder))
            peft_config.inference_mode = False
            return get_peft_model(model, peft_config)
        if (folder / ADAPTERS).is_file():
            return adapted(model, _read_json(folder / ADAPTERS))
    return model


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}): copy or train the model again") from error


def _tied(model: nn.Module, slots: Mapping[str, Any]) -> set[str]:
    """Other names of parameters that the members hold."""
    held = {id(places[0][0]._parameters[places[0][1]]) for places in slots.values()}
    return {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in held and name not in slots
    }
