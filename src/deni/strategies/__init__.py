"""When members exist: one file for each strategy."""

from __future__ import annotations

from typing import Any

from deni.errors import short
from deni.settings import as_it_is, make
from deni.strategies.base import Setup, Strategy
from deni.strategies.default import Default
from deni.strategies.delayed_ensemble import DelayedEnsemble
from deni.strategies.deni import DENI
from deni.strategies.ensemble import Ensemble
from deni.strategies.forking import Forking
from deni.strategies.noisy_interpolation import NoisyInterpolation

STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls for cls in (Default, Ensemble, DelayedEnsemble, NoisyInterpolation, DENI)
}
ALIASES = {"de": "delayed_ensemble", "ni": "noisy_interpolation"}
PRESETS = ("paper", "released")


def make_strategy(name: str | Strategy, preset: str | None = None, **settings: Any) -> Strategy:
    """The strategy of that name.

    Args:
        name: a name or alias, or a strategy (then returned as it is).
        preset: `paper` or `released`, for the settings that are not given.
        settings: the strategy's own; None means not given.

    Raises:
        ValueError: a name, preset or setting that does not exist, or a strategy with settings beside it.

    >>> make_strategy("de", members=3).members
    3
    """
    if isinstance(name, Strategy):
        return as_it_is("strategy", name, settings)
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"unknown preset {short(preset)}: choose from {', '.join(PRESETS)}")
    name = ALIASES.get(name, name) if isinstance(name, str) else name
    defaults = STRATEGIES[name].presets.get(preset or "", {}) if isinstance(name, str) and name in STRATEGIES else {}
    given = {key: value for key, value in settings.items() if value is not None}
    return make("strategy", STRATEGIES, name, {**defaults, **given})


__all__ = [
    "ALIASES",
    "DENI",
    "PRESETS",
    "STRATEGIES",
    "Default",
    "DelayedEnsemble",
    "Ensemble",
    "Forking",
    "NoisyInterpolation",
    "Setup",
    "Strategy",
    "make_strategy",
]
