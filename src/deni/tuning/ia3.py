"""Infused adapter by inhibiting and amplifying inner activations (Liu et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.tuning.base import Tuning, fan_in_fan_out, modules_to_save, task_type

if TYPE_CHECKING:
    from torch import nn

# Keys, values and the second feed-forward layer, as PEFT has it for BERT, of architectures that PEFT does not know.
# The last one is scaled at its input.
_DECODER = ["k_proj", "v_proj", "down_proj"]
TARGETS = {
    "albert": ["key", "value", "ffn_output"],
    "camembert": ["key", "value", "output.dense"],
    "distilbert": ["k_lin", "v_lin", "lin2"],
    "electra": ["key", "value", "output.dense"],
    "modernbert": ["Wqkv", "mlp.Wo"],  # queries, keys and values are one layer
    "pegasus": ["k_proj", "v_proj", "fc2"],
    "mpnet": ["k", "v", "output.dense"],
    "xlm-roberta": ["key", "value", "output.dense"],
    **dict.fromkeys(["cohere", "cohere2", "granite", "olmo", "olmo2", "smollm3", "stablelm"], _DECODER),
    "mbart": ["k_proj", "v_proj", "fc2"],
    "phi3": ["qkv_proj", "down_proj"],
}


@dataclass(frozen=True)
class IA3(Tuning, name="ia3", paper_row=3):
    """Train one factor for each feature of keys, values and feed-forward layers, and the output layer.

    The factors start at 1, so scaled noise does not reach them at first: their standard deviation is 0 (see `floor`).
    """

    when: ClassVar[str] = "When as few parameters as possible should train."

    learning_rate: ClassVar[float] = 1e-2
    paper_learning_rate: ClassVar[float] = 7.5e-3

    def apply(self, model: nn.Module) -> nn.Module:
        from peft import IA3Config, get_peft_model
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING

        family = getattr(getattr(model, "config", None), "model_type", "")
        targets = TARGETS.get(family)
        if not targets and family not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
            raise SettingError(f"ia3 does not know which layers of {family or 'this model'} to scale: use lora")
        settings = {"target_modules": targets, "feedforward_modules": targets[-1:]} if targets else {}
        config = IA3Config(
            task_type=task_type(model),
            fan_in_fan_out=fan_in_fan_out(model),
            modules_to_save=modules_to_save(model),
            **settings,  # type: ignore[arg-type]
        )
        return get_peft_model(model, config)
