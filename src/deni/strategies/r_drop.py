"""Two passes with different dropout masks that are to agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.strategies.base import Passes, Strategy
from deni.strategies.input_noise import InputNoise

if TYPE_CHECKING:
    from torch import Tensor

    from deni.population import Population


@dataclass(frozen=True)
class RDrop(Strategy, name="r_drop"):
    """Compute each batch twice, with different dropout, and penalize the difference (R-Drop, Liang et al. 2021).

    The loss is the mean of both passes' losses plus alpha times their difference: the symmetric Kullback-Leibler
    divergence of classes, or of whether a text has a label; the squared difference of numbers.

    Args:
        r_drop_alpha: weight alpha of the difference, finite and at least 0; 0 computes one pass, as usual. Liang et al.
            take 0.1, 0.5 or 1 for fine-tuning.
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = "When few texts are labeled and training may cost twice as much, but prediction may not."

    r_drop_alpha: float = 1.0

    def __post_init__(self) -> None:
        if not (self.r_drop_alpha >= 0 and math.isfinite(self.r_drop_alpha)):
            raise SettingError(f"r_drop_alpha must be finite and at least 0, not {self.r_drop_alpha}")

    @property
    def passes(self) -> int:
        return 2 if self.r_drop_alpha else 1

    def conflicts_with(self, other: Strategy) -> str:
        if isinstance(other, InputNoise):
            return "the noise of a step is for one pass, and there would be two"
        return ""

    def losses(self, population: Population, passes: Passes) -> Tensor:
        if not self.r_drop_alpha:
            return super().losses(population, passes)
        first, other = passes(), passes()
        mean = (passes.loss(first) + passes.loss(other)) / 2
        return mean + self.r_drop_alpha * passes.difference(first, other)
