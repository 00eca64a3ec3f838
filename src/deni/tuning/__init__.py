"""Which parameters train: one file for each tuning.

A class is imported when it is asked for, from the file of its name: `UniPELT` from unipelt.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deni.models.hugging_face import with_peft
from deni.registry import class_of
from deni.settings import as_it_is, make
from deni.tuning.base import TUNINGS, Tuning

if TYPE_CHECKING:
    from torch import nn


def make_tuning(name: str | Tuning, **settings: Any) -> Tuning:
    """The tuning of that name.

    Args:
        name: a name, or a tuning (then returned as it is).
        settings: the tuning's own; None means not given.

    Raises:
        SettingError: a name or setting that does not exist, or a tuning given together with settings.

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
    adapted = with_peft(model)
    kind = str(adapted.peft_config[adapted.active_adapter].peft_type.value).lower()
    return {"prompt_tuning": "prompt"}.get(kind, kind)


def __getattr__(name: str) -> Any:
    return class_of(__name__, name)


__all__ = ["TUNINGS", "Tuning", "make_tuning", "tuning_of"]
