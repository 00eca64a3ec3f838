"""How the states of a text's tokens become the one vector that the head of a model reads.

A class of transformers for sequence classification reads the state of one token (the first, or the last of a decoder),
through the pooler of the encoder where it has one. Another pooling is put behind the encoder: the state of each token
is replaced by the pooled vector, so the head, with all its layers, reads that vector whichever token it takes.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from deni.errors import SettingError
from deni.models.architectures import for_tokens
from deni.models.hugging_face import unwrapped
from deni.models.once import answered_once

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PretrainedConfig

Name = Literal["auto", "pooler", "cls", "mean", "last"]
Kind = Literal["pooler", "cls", "mean", "last"]
KINDS: tuple[Kind, ...] = ("pooler", "cls", "mean", "last")

# What the head of a class reads by itself. ModernBERT's config says it.
OWN: dict[str, Kind] = {
    "bert": "pooler",
    "albert": "pooler",
    "roberta": "cls",
    "xlm-roberta": "cls",
    "camembert": "cls",
    "distilbert": "cls",
    "electra": "cls",
    "mpnet": "cls",
    "deberta": "cls",
    "deberta-v2": "cls",
    "modernbert": "cls",
    "gpt2": "last",
    "gpt_neox": "last",
    "opt": "last",
    "llama": "last",
    "mistral": "last",
    "gemma": "last",
    "qwen2": "last",
    "qwen3": "last",
}
SAYS_IT = ("modernbert",)  # architectures whose config has `classifier_pooling`: cls or mean

# Modes of the package sentence-transformers -> ours; the keys of its older files in the second table.
_MODES: dict[str, Kind] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_OLDER = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Pooling:
    """Another pooling than that of a model's class; a forward hook of the encoder, see `attach`.

    Args:
        kind: `pooler`: the output of the encoder's pooler; `cls`: the state of a text's first token; `mean`: the mean
            of the states of its tokens; `last`: the state of its last token. Padding does not count.
        normalize: whether the vector is scaled to length 1.
        virtual_tokens: how many tokens a tuning puts in front of each text; they do not count.
    """

    kind: Kind
    normalize: bool = False
    virtual_tokens: int = 0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Pooling:
        """From JSON values; raises ValueError for what is not a pooling."""
        kind, normalize, virtual = (values[name] for name in ("kind", "normalize", "virtual_tokens"))
        if kind not in KINDS or not isinstance(normalize, bool) or not isinstance(virtual, int) or virtual < 0:
            raise ValueError(f"unknown pooling {dict(values)}")
        return cls(kind, normalize, virtual)

    def to_json(self) -> dict[str, Any]:
        """As JSON values.

        >>> Pooling("mean").to_json()
        {'kind': 'mean', 'normalize': False, 'virtual_tokens': 0}
        """
        return dataclasses.asdict(self)

    def __call__(self, encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """The output of the encoder with the pooled vector as the state of each token, and as its pooler's output."""
        given = inspect.signature(encoder.forward).bind_partial(*args, **kwargs).arguments
        mask = given.get("attention_mask", given.get("kwargs", {}).get("attention_mask"))
        states, vectors = output[0], self.vectors(output, mask)
        everywhere = vectors.unsqueeze(1).expand(-1, states.shape[1], -1)  # (B, T, D), without a copy
        if not isinstance(output, Mapping):
            pooler = (vectors,) if OWN.get(getattr(encoder.config, "model_type", "")) == "pooler" else output[1:2]
            return (everywhere, *pooler, *output[2:])
        changed = {**output, "last_hidden_state": everywhere}
        if "pooler_output" in output:
            changed["pooler_output"] = vectors
        return type(output)(**changed)

    def vectors(self, output: Any, mask: Tensor | None) -> Tensor:
        """The vector of each text, `(B, D)`, of the output of an encoder; `mask` as in `pooled`."""
        vectors = output[1] if self.kind == "pooler" else self.pooled(output[0], mask)
        return _scaled(vectors) if self.normalize else vectors

    def pooled(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """The vector of each text, `(B, D)`.

        Args:
            states: of tokens, `(B, T, D)`.
            mask: 0 at padding, `(B, T)`; None where there is none. One with more columns, those of a prefix, is cut on
                the left.
        """
        import torch

        rows, tokens = states.shape[:2]
        if mask is None:
            real = torch.ones(rows, tokens, dtype=torch.bool, device=states.device)
        elif mask.dim() != 2:
            raise SettingError(f"pooling needs an attention mask (texts, tokens), not one of shape {tuple(mask.shape)}")
        else:
            real = mask[:, -tokens:] != 0
        at = torch.arange(tokens, device=states.device)
        real = real & (at >= self.virtual_tokens)
        if self.kind == "mean":
            wide = states if states.dtype.itemsize > 2 else states.float()
            total = wide.masked_fill(~real.unsqueeze(-1), 0).sum(1)
            return (total / real.sum(1, keepdim=True).clamp(min=1)).to(states.dtype)
        order = at.flip(0) if self.kind == "cls" else at  # the largest is the token that is meant
        chosen = torch.where(real, order, -1).argmax(1)
        return states[torch.arange(rows, device=states.device), chosen]


def _scaled(vectors: Tensor) -> Tensor:
    from torch.nn import functional as F

    wide = vectors if vectors.dtype.itemsize > 2 else vectors.float()
    return F.normalize(wide, dim=-1).to(vectors.dtype)


# ---- which one -----------------------------------------------------------------------------------------------------


def own_pooling(config: PretrainedConfig) -> Kind | None:
    """What the class for sequence classification reads by itself; None for an architecture that is not known."""
    kind = OWN.get(config.model_type)
    return getattr(config, "classifier_pooling", kind) if config.model_type in SAYS_IT else kind


def choose(
    name: Name, normalize: bool, config: PretrainedConfig, virtual_tokens: int = 0, padding_side: str = "right"
) -> Pooling | None:
    """The pooling of this name for a model; None where its class does it: at `auto`, not normalized.

    Args:
        config: of the model.
        virtual_tokens: see `Pooling`.
        padding_side: of the tokenizer.

    Raises:
        SettingError: an architecture that is not known, or that has no such pooling.
    """
    if name == "auto" and not normalize:
        return None
    family, own = config.model_type, own_pooling(config)
    kind = own if name == "auto" else name
    if own is None or kind is None:
        known = ", ".join(sorted(OWN))
        raise SettingError(f"pooling is not known for the architecture {family}: use auto, or one of {known}")
    if kind == "pooler" and padding_side == "left":
        raise SettingError(f"the pooler of {family} reads padding on the left: choose cls, mean or last as pooling")
    if why := _why_unfit(kind, family):
        raise SettingError(why)
    return Pooling(kind, normalize, virtual_tokens)


def _why_unfit(kind: Kind, family: str) -> str:
    """Why an architecture has no such pooling; empty where it has."""
    if kind == "pooler" and OWN.get(family) != "pooler":
        others = "mean or last" if OWN.get(family) == "last" else "cls, mean or last"
        return f"{family} has no pooler in its encoder: choose {others} as pooling"
    if kind == "cls" and OWN.get(family) == "last":
        return f"{family} reads from left to right, so its first token knows no text: choose mean or last as pooling"
    return ""


@answered_once
def resolve(name: Name, normalize: bool, model: str, pairs: str = "cross") -> tuple[Name, bool]:
    """What is asked for, for this model: a pooling that its class does not do by itself, or `auto` where it does.

    `auto` follows what the files of a sentence encoder declare, but for their normalization: in the study `features`
    the mean of MiniLM's tokens is above the pooler at every learning rate. Of pairs that are encoded separately it is
    the mean, which makes vectors that can be compared.

    Args:
        model: `minilm`, a folder, or a hub id.
        pairs: `cross` or `bi`, see `deni.recipe.Recipe`.
    """
    from deni.models.loading import load_config, locate

    if name == "auto" and pairs == "bi":
        return "mean", normalize
    if name == "auto":
        declared = declared_pooling(locate(model))
        name = "auto" if declared is None else declared.kind
    own = name != "auto" and not normalize and pairs == "cross" and name == own_pooling(load_config(model))
    return ("auto", False) if own else (name, normalize)


def declared_pooling(source: str | Path) -> Pooling | None:
    """How a sentence encoder says that its vectors are made; None for another model, or another way than ours.

    That is what the package sentence-transformers reads: `modules.json`, and `config.json` of the pooling.

    Args:
        source: a folder or hub id.
    """
    from deni.models.reading import read_text

    text = read_text(source, "modules.json")
    try:
        modules = [] if text is None else json.loads(text)
        kinds = [str(each["type"]).rpartition(".")[2] for each in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            return None
        text = read_text(source, f"{modules[1]['path']}/config.json")
        config = {} if text is None else json.loads(text)
        mode = config.get("pooling_mode") or [older for key, older in _OLDER.items() if config.get(key)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    mode = mode[0] if isinstance(mode, list) and len(mode) == 1 else mode
    if not isinstance(mode, str) or mode not in _MODES:
        return None
    return Pooling(_MODES[mode], "Normalize" in kinds)


# ---- on a model ----------------------------------------------------------------------------------------------------


def attach(model: nn.Module, pooling: Pooling | None) -> nn.Module:
    """The model, which from now on pools so; None leaves it to the class.

    Args:
        model: for sequence classification; also one that PEFT wraps. It is changed.

    Raises:
        SettingError: a model that has no such pooling.
    """
    if pooling is None:
        return model
    config: Any = unwrapped(model).config
    why = "token classification has no pooling" if for_tokens(model) else _why_unfit(pooling.kind, config.model_type)
    if why:
        raise SettingError(why)
    detach(model)
    encoder_of(model).register_forward_hook(pooling, with_kwargs=True)
    return model


def pooling_of(model: nn.Module) -> Pooling | None:
    """What `attach` has put on a model; None where its class pools."""
    hooks = encoder_of(model)._forward_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, Pooling)), None)


def detach(model: nn.Module) -> None:
    """Let the class of a model pool again."""
    encoder = encoder_of(model)
    for key in [key for key, hook in encoder._forward_hooks.items() if isinstance(hook, Pooling)]:
        del encoder._forward_hooks[key]
        encoder._forward_hooks_with_kwargs.pop(key, None)


def encoder_of(model: nn.Module) -> nn.Module:
    """The model without its head; a model without such a part is it itself."""
    inner = unwrapped(model)
    return getattr(inner, getattr(inner, "base_model_prefix", "") or "", inner)


def says(pooling: Pooling | None, config: PretrainedConfig, padding_side: str) -> dict[str, Any] | None:
    """What a config must have for the class to pool so by itself; None where no config can say it.

    Args:
        padding_side: of the tokenizer: the first token of a class is padding where that is on the left.
    """
    if pooling is None:
        return {}
    first = pooling.kind in ("pooler", "cls") and padding_side == "left"
    if pooling.normalize or pooling.virtual_tokens or first:
        return None
    if pooling.kind == own_pooling(config):
        return {}
    if config.model_type in SAYS_IT and pooling.kind in ("cls", "mean"):
        return {"classifier_pooling": pooling.kind}
    return None
