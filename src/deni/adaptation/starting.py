"""The model that is adapted: with the head of its objective, and what its files hold besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deni.adaptation.contrastive import SimCSE, ranking_loss
from deni.adaptation.masked import MaskedLanguageModel
from deni.adaptation.objective import Objective
from deni.errors import SettingError, did_you_mean, short, shown
from deni.inputs import candidates
from deni.models.features import FrozenEncoder
from deni.models.loading import load_encoder, load_masked_model, load_tokenizer, locate
from deni.models.pooling import declared_pooling
from deni.models.reading import read_text

Name = Literal["auto", "mlm", "simcse"]

# What the package sentence-transformers reads besides the encoder; the folders of modules come with `modules.json`.
_MODULES = "modules.json"
_SETTINGS = ("sentence_bert_config.json", "config_sentence_transformers.json")


@dataclass(frozen=True)
class Start:
    """A model before it is adapted.

    Args:
        model: of transformers, with the head that the objective needs.
        objective: what it learns.
        lacking: parameters that its files have not, such as those of a pooler that nobody trained; not to be written.
        kept: tensors of its files that the model has no place for: a pooler next to a head for masked tokens.
        files: of the package sentence-transformers, name -> content: the result is pooled as the model was.
    """

    model: nn.Module
    objective: Objective
    lacking: frozenset[str] = frozenset()
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def check_objective(name: str) -> None:
    """Raise SettingError for an objective that does not exist."""
    if name not in get_args(Name):
        raise SettingError(f"unknown objective {short(name)}: {did_you_mean(str(name), get_args(Name))}")


def start_from(model: str, objective: Name = "auto") -> Start:
    """Load a model for an objective.

    Args:
        model: `minilm`, a folder, or a hub id.
        objective: `auto`: masked language modelling where the files have a head for it, else SimCSE.

    Raises:
        InputError: a model that cannot be loaded, or that cannot learn so.
    """
    check_objective(objective)
    if candidates(model):
        raise SettingError(f"{model} names several models: adapt one, as deni models finds it")
    tokenizer = load_tokenizer(model)
    if objective != "simcse":
        start, why = _masked(model, tokenizer)
        if start is not None:
            return start
        if objective == "mlm":
            raise SettingError(f"model {model!r} {why}: choose simcse, or another model")
    return _contrastive(model, tokenizer)


def _masked(model: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Start | None, str]:
    """A model with its head, or why there is none."""
    if tokenizer.mask_token is None:
        return None, "has no token that stands for hidden ones"
    loaded = load_masked_model(model)
    if loaded is None:
        return None, "is of an architecture without a head for masked language modelling"
    masked, missing = loaded
    if missing:
        parts = f"its files lack {shown(sorted(missing), 1)}"
        return None, f"has no trained head for masked language modelling ({parts}), and a new one would undo it"
    prefix = str(getattr(masked, "base_model_prefix", ""))
    encoder, lacking = load_encoder(model)
    there = masked.state_dict()
    named = {f"{prefix}.{name}": value for name, value in encoder.state_dict().items() if name not in lacking}
    kept = {name: value.clone() for name, value in named.items() if name not in there}
    return Start(masked, MaskedLanguageModel(tokenizer), kept=kept, files=_files(model)), ""


def _contrastive(model: str, tokenizer: PreTrainedTokenizerBase) -> Start:
    ranking_loss()
    files = _files(model)
    if _MODULES in files and declared_pooling(locate(model)) is None:
        raise SettingError(
            f"model {model!r} has modules behind its encoder that simcse does not train (see its modules.json): choose "
            "a model of encoder and pooling"
        )
    encoder, lacking = load_encoder(model)
    pooling = FrozenEncoder(model).pooled
    if pooling.kind == "pooler" and any(name.startswith("pooler.") for name in lacking):
        raise SettingError(f"model {model!r} is read through a pooler that its files lack: choose another model")
    return Start(encoder, SimCSE(tokenizer, pooling), frozenset(lacking), files=files)


def _files(model: str) -> dict[str, str]:
    """What of a model the package sentence-transformers reads; nothing where it is none of its models."""
    source = locate(model)
    text = read_text(source, _MODULES)
    if text is None:
        return {}
    try:
        paths = [str(each["path"]) for each in json.loads(text)]
    except (ValueError, KeyError, TypeError):
        return {}
    names = [*_SETTINGS, *(f"{path}/config.json" for path in paths if path and ".." not in path and path[0] != "/")]
    found = {name: read_text(source, name) for name in names}
    return {_MODULES: text, **{name: content for name, content in found.items() if content is not None}}
