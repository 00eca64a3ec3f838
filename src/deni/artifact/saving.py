"""Write an artifact."""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deni.artifact.folder import ADAPTERS, BASE, CARD, FORMAT, IDS, MEMBERS, sizes, writing
from deni.artifact.model_card import card
from deni.engine.active_tokens import ActiveEmbedding
from deni.errors import InputError
from deni.models.hugging_face import hugging_face, with_peft
from deni.outputs import INFO
from deni.population import Population
from deni.provenance import versions
from deni.tasks import task_of


def save(
    folder: str | Path,
    *,
    population: Population,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    info: Mapping[str, Any],
    overwrite: bool = False,
    extra_files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write an artifact.

    Args:
        folder: must not exist, unless `overwrite`.
        population: its members are stored stacked, what they share once.
        labels: class names in the order of the model's outputs.
        info: as `describe` makes it.
        extra_files: names of further files in the folder, and what is in them.

    Returns:
        the folder.

    Raises:
        InputError: the folder exists or cannot be written.
    """
    folder = Path(folder)
    with writing(folder, overwrite) as target:
        with population.plain() as model:
            task = info.get("task") or task_of(model).name
            shared, ids = _shared(model, population)
            config = copy.deepcopy(hugging_face(model).config)
            config.id2label, config.label2id = dict(enumerate(labels)), {label: at for at, label in enumerate(labels)}
            for name in ("quantization_config", "_pre_quantization_dtype"):  # what is saved is not quantized
                vars(config).pop(name, None)
            config.save_pretrained(target)
            if hasattr(model, "peft_config"):
                adapted = with_peft(model)
                adapted.peft_config[adapted.active_adapter].save_pretrained(target)
            if hasattr(model, "adapters_config"):
                kinds = model.adapters_config.to_dict()  # type: ignore[operator, union-attr]
                (target / ADAPTERS).write_text(json.dumps(kinds, indent=1) + "\n", encoding="utf-8")
        _write(target / MEMBERS, {**population.values, **population.module.held_values(), **ids})
        _write(target / BASE, shared)
        tokenizer.save_pretrained(target)
        here = versions()
        what = {
            "format": FORMAT,
            "deni": here.pop("deni"),
            "versions": {**here, "python": platform.python_version()},
            "labels": list(labels),
            "runs": population.runs,
            "members": population.members,
            **info,
            "task": task,
        }
        (target / CARD).write_text(card(folder.name, what), encoding="utf-8")
        for name, content in (extra_files or {}).items():
            (target / name).write_bytes(content)
        what["files"] = sizes(target)
        (target / INFO).write_text(json.dumps(what, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def _shared(model: nn.Module, population: Population) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the members share, under the plain model's names, and the ids of active rows."""
    shared = {name: value for name, value in model.state_dict().items() if name not in population.slots}
    for name, value in model.named_parameters():
        if hasattr(value, "quant_state"):  # bitsandbytes: the artifact loads everywhere, so its weights are plain ones
            shared = {key: each for key, each in shared.items() if not key.startswith(f"{name}.")}
            shared[name] = _dequantized(value, name)
    ids = {}
    for name, places in population.slots.items():
        for module, _ in places:
            if isinstance(module, ActiveEmbedding):
                shared[name], ids[name + IDS] = module.table, module.ids
    # A tied parameter has several names in a state dict; the members hold it under the first.
    held = {views[0].data_ptr() for views in population.views.values()}
    held |= {value.data_ptr() for value in population.module.held.values()}
    return {name: value for name, value in shared.items() if value.data_ptr() not in held}, ids


def _dequantized(value: Any, name: str) -> Tensor:
    """The weight that 4 bits stand for, in the type of the computation."""
    from bitsandbytes.functional import dequantize_4bit

    if value.quant_state is None:
        raise InputError(f"{name} is quantized in a way that cannot be saved: use bitsandbytes' 4 bits")
    return dequantize_4bit(value.data, value.quant_state)
