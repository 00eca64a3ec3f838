"""What deni needs of a Hugging Face model beyond `nn.Module`, for the type checker."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PretrainedConfig


class HuggingFaceModel(Protocol):
    """The methods that are called on a `transformers.PreTrainedModel`, or on one that PEFT wraps."""

    config: PretrainedConfig

    def get_input_embeddings(self) -> nn.Embedding: ...

    def set_input_embeddings(self, value: nn.Module) -> None: ...

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None: ...

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None: ...

    def disable_input_require_grads(self) -> None: ...

    def save_pretrained(self, save_directory: Path, *, state_dict: dict[str, Tensor] | None = None) -> None: ...

    def _init_weights(self, module: nn.Module) -> None: ...


class AdaptedModel(HuggingFaceModel, Protocol):
    """What `peft.PeftModel` has besides."""

    peft_config: dict[str, Any]
    active_adapter: str
    base_model: nn.Module

    def get_base_model(self) -> nn.Module: ...

    def merge_and_unload(self) -> nn.Module: ...


def hugging_face(model: nn.Module) -> HuggingFaceModel:
    """The same model, for the type checker: torch gives any attribute of a module as a tensor or a module."""
    return cast("HuggingFaceModel", model)


def with_peft(model: nn.Module) -> AdaptedModel:
    """The same model, for the type checker; the caller has seen its `peft_config`."""
    return cast("AdaptedModel", model)


def config_of(model: nn.Module) -> PretrainedConfig | None:
    """The config of a model of transformers; None for a module without one."""
    config = getattr(model, "config", None)
    return config if hasattr(config, "save_pretrained") else None


def accepted_inputs(model: nn.Module) -> frozenset[str] | None:
    """The names of what a model takes, an adapter's base model in place of the adapter; None if it takes any."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    parameters = inspect.signature(inner.forward).parameters.values()
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    return None if takes_any else frozenset(each.name for each in parameters)


def logits_of(outputs: Any) -> Tensor:
    """The logits among what a model returns: of this name, or the first."""
    return outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]


def unwrapped(model: nn.Module) -> nn.Module:
    """The model that PEFT wraps; any other as it is."""
    # PEFT leaves `peft_config` on the model that it wraps, too
    return with_peft(model).get_base_model() if hasattr(model, "get_base_model") else model
