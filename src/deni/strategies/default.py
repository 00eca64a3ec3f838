"""Plain fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from deni.strategies.base import Strategy


@dataclass(frozen=True)
class Default(Strategy, name="default", paper_row=1):
    """Plain fine-tuning of one model: what every strategy is compared with."""
