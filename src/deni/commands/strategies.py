"""What `deni strategies` does: the schedules of strategies, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deni.errors import SettingError
from deni.schedule import Schedule
from deni.strategies import STRATEGIES, make_strategy
from deni.strategies.ensemble import Ensemble


@dataclass(frozen=True)
class StrategyCost:
    """What a strategy trains in a number of optimizer steps.

    Args:
        name: of the strategy.
        schedule: which steps train how many members.
        share: its member-steps, as a part of those of an ensemble of ten.
    """

    name: str
    schedule: Schedule
    share: float


def show_strategies(
    strategy: str | None = None, *, steps: int = 1250, preset: str | None = None, **settings: Any
) -> list[StrategyCost]:
    """The schedule and cost of a strategy, or of each built-in one.

    Args:
        strategy: its name; None for all.
        steps: optimizer steps of a run.
        preset: of the settings that are not given.
        settings: of the strategy; only where it is named.

    Raises:
        SettingError: a strategy or setting that does not exist, or phases that do not fit into so few steps.

    >>> [(each.name, each.schedule.cost, each.share) for each in show_strategies("deni")]
    [('deni', 4625, 0.37)]
    """
    if strategy is None and settings:
        raise SettingError(f"{', '.join(settings)}: name the strategy whose settings these are")
    ten = Ensemble(members=10).schedule(steps).cost
    names = list(STRATEGIES) if strategy is None else [strategy]
    schedules = {name: make_strategy(name, preset, **settings).schedule(steps) for name in names}
    return [StrategyCost(name, schedule, schedule.cost / ten) for name, schedule in schedules.items()]
