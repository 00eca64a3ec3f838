"""The strategy that is chosen when the texts are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.errors import SettingError
from deni.schedule import Schedule
from deni.strategies.base import Setup, Strategy


@dataclass(frozen=True)
class Auto(Strategy, name="auto"):
    """Take what is best as far as is known for such texts: strategy, tuning, pooling, epochs and rates, from a table.

    `deni.auto.decide` puts another strategy in its place before anything is built. It trains nothing itself.
    """

    when: ClassVar[str] = "When you want one good model and have no reason to choose by yourself."

    def conflicts_with(self, other: Strategy) -> str:
        return f"auto chooses what trains, so {other.name} has nothing to be added to: name the strategies themselves"

    def schedule(self, steps: int) -> Schedule:
        """Nothing yet."""
        return Schedule(())

    def prepare(self, setup: Setup) -> Setup:
        raise SettingError(
            "the strategy auto is chosen by deni.auto.decide(recipe, texts), as deni train and fine_tune do: a trainer "
            "takes the strategy that it becomes"
        )
