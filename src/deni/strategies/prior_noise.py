"""Noise on the weights before training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deni.errors import SettingError
from deni.noise import Noise
from deni.settings import check_choices
from deni.strategies.base import Outputs, Strategy

if TYPE_CHECKING:
    from torch import nn

    from deni.population import Population


@dataclass(frozen=True)
class PriorNoise(Strategy, name="prior_noise", paper_row=7):
    """Perturb the weights before the first step (Wu et al. 2022, NoisyTune; arXiv 2406.12471).

    Args:
        prior: kind of noise: `normal`: variance v on all tensors that train, as in the paper; `noisytune`: the
            original, uniform noise (u - 0.5) * intensity * s on all pre-trained weights.
        variance: variance v of the normal noise, at least 0; 0.15 in the paper.
        scale: scale s of the normal noise: `scaled` by the tensor's standard deviation or `uniform`.
        floor: smallest s of scaled noise; fresh LoRA and IA3 tensors have none of their own.
        intensity: intensity of the noise of NoisyTune, at least 0; 0.15 in Wu et al.
    """

    when: ClassVar[str] = (
        "As a simple mitigation at the cost of one model, or together with other strategies: prior_noise+deni."
    )

    prior: Literal["normal", "noisytune"] = "normal"
    variance: float = 0.15
    scale: Literal["scaled", "uniform"] = "scaled"
    floor: float = 0.0
    intensity: float = 0.15

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.intensity >= 0:
            raise SettingError(f"intensity must be at least 0, not {self.intensity}")
        self._normal()  # checks the rest

    def _normal(self) -> Noise:
        return Noise(variance=self.variance, scale=self.scale, scope="trainable", floor=self.floor)

    def prepare_model(self, model: nn.Module) -> nn.Module:
        from deni.models.architectures import has_adapter

        if self.prior == "noisytune" and has_adapter(model):
            raise SettingError(
                "prior='noisytune' perturbs the pre-trained weights, which are frozen with PEFT: choose prior='normal' "
                "or full tuning"
            )
        return model

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        if self.prior == "noisytune":
            head = population.scope("head")
            population.shake([name for name in population.slots if name not in head], self.intensity)
        elif self.variance:
            population.perturb(self._normal())

    @property
    def scope(self) -> str:
        return "trainable"
