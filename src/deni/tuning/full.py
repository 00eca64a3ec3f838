"""All parameters train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.tuning.base import Tuning

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Full(Tuning, name="full", paper_row=1):
    """Train every parameter of the model."""

    when: ClassVar[str] = (
        "As the reference, where every member's weights, gradients and optimizer state fit into memory."
    )

    adapter: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 1e-4
    paper_learning_rate: ClassVar[float] = 1e-5  # arXiv 2406.12471

    def apply(self, model: nn.Module) -> nn.Module:
        return model.requires_grad_(True)
