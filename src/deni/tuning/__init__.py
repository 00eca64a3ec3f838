"""Which parameters train: one file for each tuning."""

from __future__ import annotations

from typing import Any

from torch import nn

from deni.settings import as_it_is, make
from deni.tuning.base import Tuning
from deni.tuning.full import Full
from deni.tuning.ia3 import IA3
from deni.tuning.lora import Lora, mean_of_products
from deni.tuning.prompt import Prompt
from deni.tuning.unipelt import UniPELT

TUNINGS: dict[str, type[Tuning]] = {cls.name: cls for cls in (Full, Lora, IA3, UniPELT, Prompt)}


def make_tuning(name: str | Tuning, **settings: Any) -> Tuning:
    """The tuning of that name.

    Args:
        name: a name, or a tuning (then returned as it is).
        settings: the tuning's own; None means not given.

    Raises:
        ValueError: a name or setting that does not exist, or a tuning with settings beside it.

    >>> make_tuning("lora", lora_r=8).lora_r
    8
    """
    return as_it_is("tuning", name, settings) if isinstance(name, Tuning) else make("tuning", TUNINGS, name, settings)


def tuning_of(model: nn.Module) -> str:
    """What a model that somebody else prepared trains: the name of a tuning."""
    if hasattr(model, "adapters_config"):
        return "unipelt"
    if not hasattr(model, "peft_config"):
        return "full"
    kind = str(model.peft_config[model.active_adapter].peft_type.value).lower()  # type: ignore[index, union-attr, operator]
    return {"prompt_tuning": "prompt"}.get(kind, kind)


__all__ = [
    "IA3",
    "TUNINGS",
    "Full",
    "Lora",
    "Prompt",
    "Tuning",
    "UniPELT",
    "make_tuning",
    "mean_of_products",
    "tuning_of",
]
