"""Read a PEFT adapter with its base model: as an ordinary model, with the adapter merged where that is possible."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from deni.artifact.schema import check_finite
from deni.errors import ArtifactError, short, shown
from deni.hub.fetching import download
from deni.hub.names import hub_id
from deni.models.hugging_face import with_peft
from deni.models.places import MINILM, locate
from deni.models.reading import ADAPTER, AGAIN, check_regular, read_adapter_config, read_json, read_model, told

WEIGHTS = "adapter_model.safetensors"


def is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter of PEFT."""
    return (folder / ADAPTER).is_file()


def load_adapter(folder: Path, kind: Any, config: Any, dtype: torch.dtype | None) -> nn.Module:
    """The base model with the adapter of a folder; never runs code, and reads no pickles of the adapter.

    Args:
        kind: an `AutoModelFor...` class.
        config: of the whole model, with its labels.
        dtype: None for float32, in which adapters train.

    Raises:
        ArtifactError: an adapter or a base model that cannot be read, or that do not fit.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    peft_config = read_adapter_config(folder)
    file = folder / WEIGHTS
    check_regular(file)
    if not file.is_file():
        raise ArtifactError(f"{file} is missing: {AGAIN}")
    with told(file):
        given = load_file(file)
    check_finite(given, file)
    base = _base(folder, peft_config)
    with torch.random.fork_rng(devices=[]):  # a head, whose values the adapter has, is drawn
        model, found = read_model(kind, base, config, dtype=dtype or torch.float32, output_loading_info=True)
        with told(folder / ADAPTER):
            adapted = get_peft_model(model, peft_config)
    with told(file):
        if lacking := sorted(_wanted(get_peft_model_state_dict(adapted, save_embedding_layers=False)) - given.keys()):
            raise ArtifactError(f"{file} is incomplete: {shown(lacking, 1)} missing")
        set_peft_model_state_dict(adapted, given)
    # Older versions of PEFT name the copies of layers that they train.
    own = [re.sub(r"\.modules_to_save(\.default)?(?=\.)", "", each) for each in given]
    left = [name for name in found["missing_keys"] if not any(each.endswith(f".{name}") for each in own)]
    if left:
        raise ArtifactError(
            f"{folder} is incomplete: neither it nor its base model {base} has {shown(sorted(left), 1)}"
        )
    return with_peft(adapted).merge_and_unload() if hasattr(adapted, "merge_and_unload") else adapted


def _wanted(state: Iterable[str]) -> set[str]:
    """The names that a file of an adapter has; where biases train, PEFT lists them inside of its wrappers, too."""
    return {name.replace(".modules_to_save.", ".") for name in state if ".original_module." not in name}


def virtual_tokens(folder: Path) -> int:
    """Tokens that an adapter puts in front of each text."""
    count = read_json(folder / ADAPTER).get("num_virtual_tokens") if is_adapter(folder) else None
    return count if isinstance(count, int) else 0


def _base(folder: Path, peft_config: Any) -> str | Path:
    """The folder of the base model."""
    named, revision = peft_config.base_model_name_or_path, peft_config.revision
    file = folder / ADAPTER
    if not named:
        raise ArtifactError(
            f"{file}: base_model_name_or_path is missing: name the model that the adapter was trained on"
        )
    if os.path.isdir(named):
        return Path(named)
    if named == MINILM and os.path.isdir(packaged := locate("minilm")):
        return packaged
    if hub_id(named) is None:
        raise ArtifactError(
            f"{file}: base_model_name_or_path is {short(named)}, no folder that is here and no hub id: write there "
            "where the model is that the adapter was trained on"
        )
    return download(named, revision)
