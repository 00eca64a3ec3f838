"""Several independent runs that vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.strategies.voting import Voting


@dataclass(frozen=True)
class Ensemble(Voting, name="ensemble", paper_row=4):
    """Train independent models, each with its own initialization, dropout and sample order, and let them vote."""

    when: ClassVar[str] = (
        "When ten times the cost of one fine-tuning run is affordable, or as the reference for cheaper strategies."
    )

    presets: ClassVar = {"paper": {"combine": "hard"}, "released": {"combine": "hard"}}

    @property
    def runs(self) -> int:
        return self.members
