"""Noise on the weights, every so often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.noise import Noise, faded
from deni.settings import subset
from deni.strategies.periodic import Periodic

if TYPE_CHECKING:
    from deni.population import Population


@dataclass(frozen=True)
class WeightNoise(Noise, Periodic, name="weight_noise", paper_row=6):
    """Add noise that fades as 1/step to the weights in the middle of training (arXiv 2406.12471).

    After `step` steps the variance of the noise is v/step. Its other settings are those of `deni.noise.Noise`.
    """

    when: ClassVar[str] = (
        "As a mitigation at the cost of one model, or to see what noisy_interpolation adds to its noise."
    )

    def __post_init__(self) -> None:
        Periodic.__post_init__(self)
        Noise.__post_init__(self)

    def after_step(self, population: Population, step: int, steps: int) -> None:
        if self.variance and step in self.due(steps):
            population.perturb(faded(subset(Noise, self), step))
