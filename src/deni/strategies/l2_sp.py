"""Weight decay towards the weights at the start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.strategies.base import Outputs, Strategy
from deni.strategies.mixout import Mixout

if TYPE_CHECKING:
    from deni.population import Population


@dataclass(frozen=True)
class L2SP(Strategy, name="l2_sp"):
    """Penalize the distance from the pre-trained weights, not the size of the weights (L2-SP, Li et al. 2018).

    The loss gets l2_strength/2 * |theta - theta0|^2 over all tensors that train and are not of the head, which has no
    pre-trained weights; theta0 are the parameters at the start of training.

    Args:
        l2_strength: strength of the penalty, at least 0; Li et al. search 0.001 to 1.
    """

    when: ClassVar[str] = "When fine-tuning should not move far from the pre-trained weights, at the cost of one model."

    l2_strength: float = 0.01

    def __post_init__(self) -> None:
        if not (self.l2_strength >= 0 and math.isfinite(self.l2_strength)):
            raise SettingError(f"l2_strength must be finite and at least 0, not {self.l2_strength}")

    def conflicts_with(self, other: Strategy) -> str:
        return "both pull the parameters back to where they began" if isinstance(other, Mixout) else ""

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        if self.l2_strength:
            head = population.scope("head")
            population.kept[self.name] = {
                name: value.detach().clone() for name, value in population.values.items() if name not in head
            }

    @contextmanager
    def training(self, population: Population, step: int, steps: int) -> Iterator[None]:
        import torch

        yield
        with torch.no_grad():
            for name, start in population.kept.get(self.name, {}).items():
                for member, view in enumerate(population.views[name]):
                    if view.grad is not None:
                        way = view - start[member // population.members]
                        view.grad.add_(way, alpha=self.l2_strength * population.loss_scale)
