"""Noise on the weights, every so often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deni.schedule import Fork
from deni.settings import check_choices
from deni.strategies.periodic import Moments

if TYPE_CHECKING:
    from deni.population import Population


@dataclass(frozen=True)
class WeightNoise(Moments):
    """Add noise that fades as 1/step to the weights in the middle of training (arXiv 2406.12471).

    Args:
        variance: v; the noise after `step` steps has variance v/step. 0.15 in the paper.
        scale: s of the noise: `scaled` by the tensor's standard deviation or `uniform`.
        scope: which tensors get noise: the `head`, all `trainable` ones, or `auto`: the head with full tuning, all
            that train with PEFT (the paper's choices).
        floor: the least s of scaled noise.
    """

    name: ClassVar[str] = "weight_noise"

    variance: float = 0.15
    scale: Literal["scaled", "uniform"] = "scaled"
    scope: Literal["auto", "head", "trainable"] = "auto"
    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self)
        self._noise(1)  # checks the rest

    def _noise(self, step: int) -> Fork:
        return Fork(variance=self.variance / max(step, 1), scale=self.scale, scope=self.scope, floor=self.floor)

    def after_step(self, population: Population, step: int, steps: int) -> None:
        if self.variance and step in self.moments(steps):
            population.perturb(self._noise(step))

    @property
    def noise_scope(self) -> str:
        return self.scope
