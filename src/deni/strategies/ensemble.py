"""Several independent runs that vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deni.settings import check_choices
from deni.strategies.base import Strategy
from deni.tasks.voting import Combine


@dataclass(frozen=True)
class Ensemble(Strategy):
    """Train independent models, each with its own initialisation, dropout and sample order, and let them vote.

    Args:
        members: how many models, at least 1; 10 in the paper (arXiv 2406.12471).
        combine: `soft` (mean probability), `hard` (majority, as in the paper) or `parent` (the first alone).
    """

    name: ClassVar[str] = "ensemble"
    votes: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict[str, Any]]] = {"paper": {"combine": "hard"}, "released": {"combine": "hard"}}

    members: int = 10
    combine: Combine = "soft"  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members must be at least 1, not {self.members}")
        check_choices(self)

    @property
    def runs(self) -> int:
        return self.members
