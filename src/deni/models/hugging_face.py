"""What deni needs of a Hugging Face model beyond `nn.Module`, for the type checker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn
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

    def save_pretrained(self, save_directory: Path) -> None: ...

    def _init_weights(self, module: nn.Module) -> None: ...


class AdaptedModel(HuggingFaceModel, Protocol):
    """What `peft.PeftModel` has besides."""

    peft_config: dict[str, Any]
    active_adapter: str

    def get_base_model(self) -> nn.Module: ...

    def merge_and_unload(self) -> nn.Module: ...


def hugging_face(model: nn.Module) -> HuggingFaceModel:
    """The same model, for the type checker: torch gives any attribute of a module as a tensor or a module."""
    return cast("HuggingFaceModel", model)


def with_peft(model: nn.Module) -> AdaptedModel:
    """The same model, for the type checker; the caller has seen its `peft_config`."""
    return cast("AdaptedModel", model)
