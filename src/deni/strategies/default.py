"""Plain fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.strategies.base import Strategy


@dataclass(frozen=True)
class Default(Strategy):
    """Plain fine-tuning of one model: what every strategy is compared with."""

    name: ClassVar[str] = "default"
