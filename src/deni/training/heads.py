"""What the class of a model says of its head: what kind it is, and whether its loss is the standard one."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from functools import cache
from typing import Any, cast

from torch import nn
from transformers.loss.loss_utils import LOSS_MAPPING
from transformers.models.auto import modeling_auto

from deni.engine.answers import AnswerForward
from deni.models.hugging_face import unwrapped, with_peft
from deni.models.pairs import PairForward

LIBRARIES = ("transformers.", "adapters.", "peft.")  # whose classes compute what they are known to compute
# Kinds of heads that predict what has a vote -> the loss of transformers that goes with it.
VOTING = {
    "SEQUENCE_CLASSIFICATION": "ForSequenceClassification",
    "IMAGE_CLASSIFICATION": "ForImageClassification",
    "AUDIO_CLASSIFICATION": "ForAudioClassification",
    "VIDEO_CLASSIFICATION": "ForVideoClassification",
    "TOKEN_CLASSIFICATION": "ForTokenClassification",
}
GENERATING = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM")
HEADLESS = ("TEXT_ENCODING", "BACKBONE", "IMAGE", "RETRIEVAL")


def why_own_loss(model: nn.Module) -> str:
    """Why the loss that a model computes may be another than its task's; empty where it is the standard one.

    The class decides, and the identity of `loss_function`: a loss that equals the standard one on some batch may
    differ on the next.

    Args:
        model: the plain module, also one that PEFT wraps.
    """
    base = unwrapped(model)
    parts = (
        [base] if model is base else [model, with_peft(model).base_model, base]
    )  # PEFT's model, its tuner, the model
    for part in dict.fromkeys(parts):
        owner = _owner(type(part), "forward")
        own = vars(part).get("forward")
        replaced = own is not None and not isinstance(own, PairForward | AnswerForward) and "_hf_hook" not in vars(part)
        if part._forward_hooks or replaced:
            return f"the output of {type(part).__name__} is changed by a hook"
        if not owner.__module__.startswith(LIBRARIES):
            return f"{owner.__name__} computes its own loss"
        if owner.__module__.startswith("peft.tuners.") and not owner.__module__.endswith("tuners_utils"):
            return f"{owner.__name__} adds to the loss"
    kind = _kind(base)
    if kind not in VOTING:
        return f"{type(base).__name__} computes its own loss"
    reads = "loss_function" in _names_in_forward(cast(Hashable, type(base)))
    if reads and base.loss_function is not LOSS_MAPPING[VOTING[kind]]:
        return "loss_function of the model was replaced"
    return ""


def without_vote(model: nn.Module) -> str:
    """The class of a model whose predictions have no vote: a language model, one that marks an answer; else empty."""
    base = unwrapped(model)
    return "" if _kind(base) in (None, *VOTING) else type(base).__name__


def language_model(model: nn.Module) -> str:
    """The class of a model that predicts tokens of its vocabulary; else empty."""
    base = unwrapped(model)
    return type(base).__name__ if "LM" in (_kind(base) or "").split("_") else ""


def has_head(model: nn.Module) -> bool:
    """Whether the class of a model says what kind of head it has: one of transformers, or derived from one."""
    return _kind(unwrapped(model)) is not None


def generates(model: nn.Module) -> bool:
    """Whether a model is a causal or encoder-decoder language model, of which texts are generated."""
    return _kind(unwrapped(model)) in GENERATING


def is_causal(model: nn.Module) -> bool:
    """Whether the labels of a token are those of the one before it."""
    return _kind(unwrapped(model)) == "CAUSAL_LM"


def takes_soft_labels(model: nn.Module) -> bool:
    """Whether fractions as labels are probabilities of classes to a class, as to DeBERTa's, not several labels."""
    return "LogSoftmax" in _names_in_forward(cast(Hashable, type(unwrapped(model))))


def _kind(base: nn.Module) -> str | None:
    """The kind of head of the first of its classes that has one; None for a class of the user's own."""
    kinds = _kinds()
    return next((kinds[each.__name__] for each in type(base).__mro__ if each.__name__ in kinds), None)


@cache
def _kinds() -> dict[str, str]:
    """Name of a class of transformers -> the kind of its head, as the Auto classes call it."""
    found: dict[str, str] = {}
    headless: set[str] = set()
    for name in sorted(vars(modeling_auto), key=lambda name: (_named(name) in VOTING, "CAUSAL_LM" in name)):
        classes = _flat(getattr(modeling_auto, name)) if name.endswith("MAPPING_NAMES") else []
        if name == "MODEL_MAPPING_NAMES" or _named(name) in HEADLESS:
            headless.update(classes)
        elif name.startswith("MODEL_FOR_"):
            found.update(dict.fromkeys(classes, _named(name)))
    return {name: kind for name, kind in found.items() if name not in headless}


def _named(mapping: str) -> str:
    return mapping.removeprefix("MODEL_FOR_").removesuffix("_MAPPING_NAMES")


def _flat(mapping: Any) -> list[str]:
    """The names of classes in a mapping, where some have several."""
    return [name for each in mapping.values() for name in ([each] if isinstance(each, str) else each)]


def _owner(cls: type, name: str) -> type:
    return next(each for each in cls.__mro__ if name in vars(each))


@cache
def _names_in_forward(cls: Hashable) -> tuple[str, ...]:
    """What the forward pass of a class names; some use `loss_function`, some have the standard losses in their code."""
    forward = vars(_owner(cast(type, cls), "forward"))["forward"]
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return ("loss_function",) if code is None else code.co_names
