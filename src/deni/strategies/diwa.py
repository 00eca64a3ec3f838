"""Short independent runs from one start that become one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.schedule import Fork, Phase
from deni.strategies.base import Outputs, Score, Strategy

if TYPE_CHECKING:
    from deni.population import Population


@dataclass(frozen=True)
class DiWA(Strategy, name="diwa"):
    """Average a few short runs that begin as one model (diverse weight averaging, Ramé et al. 2022).

    They differ in the order of their texts and in dropout alone. Of LoRA the products of the factors are averaged.

    Args:
        members: how many runs, at least 1.
        run_length: optimizer steps of each run as a fraction of T, above 0 and at most 1; the learning rate follows its
            schedule over these steps.
    """

    when: ClassVar[str] = "When one model must predict, and training may cost half as much again as plain training."

    members: int = 3
    run_length: float = 0.5

    def __post_init__(self) -> None:
        if self.members < 1:
            raise SettingError(f"members must be at least 1, not {self.members}")
        if not 0 < self.run_length <= 1:
            raise SettingError(f"run_length is a fraction of all steps, above 0 and at most 1, not {self.run_length}")

    def phases(self, steps: int) -> list[Phase]:
        return [Phase(0, steps, self.members, Fork(member_order="own", merge_lora="product"))]

    def finish(self, population: Population, score: Score | None = None, outputs: Outputs | None = None) -> None:
        if population.members > 1:  # the best checkpoint has them all
            from deni.tuning.lora import mean_of_products

            population.merge(mean_of_products)
