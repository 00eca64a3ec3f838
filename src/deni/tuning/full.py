"""All parameters train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from deni.tuning.base import Tuning


@dataclass(frozen=True)
class Full(Tuning):
    """Train every parameter of the model."""

    name: ClassVar[str] = "full"
    learning_rate: ClassVar[float] = 1e-4
    paper_learning_rate: ClassVar[float] = 1e-5  # arXiv 2406.12471

    def apply(self, model: nn.Module) -> nn.Module:
        return model.requires_grad_(True)
