"""What strategies with several members have in common: how many there are, and how they vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.errors import SettingError
from deni.settings import check_choices
from deni.strategies.base import Strategy
from deni.tasks.voting import Combine


@dataclass(frozen=True)
class Voting(Strategy):
    """A strategy with several members.

    Args:
        members: how many members, the parent of a fork among them, at least 1; 10 in the paper (arXiv 2406.12471).
        combine: how members vote: `soft` (mean probability), `hard` (majority, as in the paper) or `parent` (the first
            alone).
    """

    presets: ClassVar = {"paper": {"combine": "hard"}}

    members: int = 10
    combine: Combine = "soft"

    def __post_init__(self) -> None:
        if self.members < 1:
            raise SettingError(f"members must be at least 1, not {self.members}")
        check_choices(self)
