"""TRL's `SFTTrainer` with a population of members in place of one model."""

from __future__ import annotations

from typing import Any

from deni.errors import InputError, SettingError
from deni.training.trainer import PopulationTrainer

try:
    from trl import SFTTrainer
except ImportError as error:
    raise InputError('PopulationSFTTrainer needs the package trl: pip install "trl>=1.16"') from error


class PopulationSFTTrainer(PopulationTrainer, SFTTrainer):
    """`trl.SFTTrainer` that trains members: it prepares datasets and collates as that does, and the rest is ours.

    The loss of a member is that of its answers' tokens, as of SFTTrainer with `loss_type="nll"`. What SFTTrainer logs
    besides of one model (entropy, token accuracy, tokens) is not logged.

    Args:
        model: a model, or one that PEFT has wrapped; for several runs `model_init` makes it.
        args: an `SFTConfig`.
        options: of `SFTTrainer` and of `PopulationTrainer`.

    Raises:
        SettingError: `peft_config`, the name of a model, rows without padding, another loss.
    """

    def __init__(self, model: Any = None, args: Any = None, *positional: Any, **options: Any) -> None:
        if isinstance(model, str):
            raise SettingError("model is a name: load it, AutoModelForCausalLM.from_pretrained(name)")
        if options.get("peft_config") is not None:
            raise SettingError("peft_config cannot be used: give the model with it, get_peft_model(model, peft_config)")
        packed = getattr(args, "packing", False) and getattr(args, "packing_strategy", "") != "wrapped"
        if packed or getattr(args, "padding_free", False):
            what = "packing" if packed else "padding_free"
            raise SettingError(
                f"{what} puts several texts into one row, whose members would mix: omit it, or packing with "
                "packing_strategy='wrapped'"
            )
        if getattr(args, "loss_type", "nll") != "nll":
            raise SettingError(f"loss_type cannot be {args.loss_type}: members have the loss nll")
        super().__init__(model, args, *positional, **{"task": "generation", **options})
