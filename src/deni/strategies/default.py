"""Plain fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.strategies.base import Strategy


@dataclass(frozen=True)
class Default(Strategy, name="default", paper_row=1):
    """Plain fine-tuning of one model: what every strategy is compared with."""

    when: ClassVar[str] = (
        "As the baseline that every other strategy is compared with, or when only one model is affordable."
    )
