"""Fresh weights for the top layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.strategies.base import Strategy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Reinit(Strategy, name="reinit"):
    """Re-initialize the pooler and the top layers, the most specialized in pre-training (Zhang et al. 2021).

    Args:
        reinit_layers: how many layers from the top, at least 0; Zhang et al. find 1 to 6 of BERT-large's 24
            best, by task.
    """

    when: ClassVar[str] = "With full tuning of a deep encoder on few texts."

    reinit_layers: int = 1

    def __post_init__(self) -> None:
        if self.reinit_layers < 0:
            raise SettingError(f"reinit_layers must be at least 0, not {self.reinit_layers}")

    def prepare_model(self, model: nn.Module) -> nn.Module:
        from deni.models.architectures import has_adapter, layers_of, pooler_of
        from deni.models.hugging_face import hugging_face

        if not self.reinit_layers:
            return model
        if has_adapter(model):
            raise SettingError("reinit needs layers that train, and with PEFT they are frozen: use full tuning")
        layers = layers_of(model)
        if self.reinit_layers >= len(layers):
            raise SettingError(f"the model has {len(layers)} layers: reinit at most {len(layers) - 1} of them")
        pooler = pooler_of(model)
        for fresh in [*layers[-self.reinit_layers :], *([pooler] if pooler is not None else [])]:
            for module in fresh.modules():
                for parameter in module.parameters(recurse=False):
                    parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # 5 skips what it has loaded
                module._is_hf_initialized = False  # type: ignore[assignment]
                hugging_face(model)._init_weights(module)
        return model
