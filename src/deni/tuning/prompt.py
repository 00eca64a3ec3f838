"""Prompt tuning (Lester et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deni.errors import InputError, SettingError
from deni.tuning.base import Tuning, modules_to_save

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Prompt(Tuning, name="prompt"):
    """Train the embeddings of virtual tokens in front of each text, and the output layer.

    Args:
        prompt_tokens: how many virtual tokens, at least 1; 100 in Lester et al. They count towards the model's limit.
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = (
        "When the model must stay as it is; the result is an adapter, and --task token is not possible."
    )

    separate_pairs: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 0.1
    paper_learning_rate: ClassVar[float] = 0.1  # not one of the paper's tunings

    prompt_tokens: int = 20

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1:
            raise SettingError(f"prompt_tokens must be at least 1, not {self.prompt_tokens}")

    @property
    def virtual_tokens(self) -> int:
        return self.prompt_tokens

    def apply(self, model: nn.Module) -> nn.Module:
        from peft import PromptTuningConfig, TaskType, get_peft_model

        from deni.models.architectures import for_tokens
        from deni.models.hugging_face import hugging_face

        if for_tokens(model):
            raise InputError("prompt tuning puts tokens without labels in front of a text: choose another tuning")
        config: Any = model.config
        sizes = {  # PEFT guesses them from the names in the config, which not every family has
            "token_dim": hugging_face(model).get_input_embeddings().embedding_dim,
            "num_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads,
        }
        return get_peft_model(
            model,
            PromptTuningConfig(
                task_type=TaskType.SEQ_CLS,
                num_virtual_tokens=self.prompt_tokens,
                modules_to_save=modules_to_save(model),
                **sizes,
            ),
        )
