"""When members exist: one file for each strategy.

A class is imported when it is asked for, from the file of its name: `NoisyInterpolation` from noisy_interpolation.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from deni.errors import SettingError, did_you_mean, short
from deni.registry import class_of
from deni.settings import as_it_is, make, without_missing
from deni.strategies.base import ARGUMENTS, STRATEGIES, Setup, Strategy

ALIASES = {"de": "delayed_ensemble", "ni": "noisy_interpolation"}
PRESETS = ("paper", "released")


def make_strategy(name: str | Strategy, preset: str | None = None, **settings: Any) -> Strategy:
    """The strategy of that name.

    Args:
        name: a name or alias, several with `+` between them, or a strategy (then returned as it is).
        preset: `paper` or `released`, for the settings that are not given.
        settings: the strategy's own; None means not given, where a setting cannot be None. Of several
            strategies each takes those that it has; under the name of one, a dictionary of settings for it alone.

    Raises:
        SettingError: a name, preset or setting that does not exist, a strategy given together with settings,
            strategies that contradict each other.

    >>> make_strategy("de", members=3).members
    3
    >>> make_strategy("prior_noise+swa", variance=0.1).settings()["prior_noise"]["variance"]
    0.1
    """
    if isinstance(name, Strategy):
        return as_it_is("strategy", name, settings)
    if preset is not None and preset not in PRESETS:
        raise SettingError(f"unknown preset {short(preset)}: {did_you_mean(str(preset), PRESETS)}")
    given, names = dict(settings), _names(name)
    if len(names) == 1:
        return _make_one(names[0], preset, given)
    from deni.strategies.composed import Composed

    own = {each: dict(given.pop(each)) for each in names if isinstance(given.get(each), Mapping)}
    unknown = sorted(key for key in given if given[key] is not None and not any(key in _fields(each) for each in names))
    if unknown:
        raise SettingError(f"none of {', '.join(map(str, names))} has a setting {short(unknown[0])}")
    parts = [
        _make_one(each, preset, {**{key: given[key] for key in given if key in _fields(each)}, **own.get(each, {})})
        for each in names
    ]
    return Composed(tuple(parts))


def has_setting(name: str | Strategy, setting: str) -> bool:
    """Whether a strategy to be made, or one of several, has a setting of this name."""
    return not isinstance(name, Strategy) and any(setting in _fields(each) for each in _names(name))


def _names(name: Any) -> list[Any]:
    """The names in `a+b`, without aliases; what is no string is left for others to refuse."""
    return [ALIASES.get(each.strip(), each.strip()) for each in name.split("+")] if isinstance(name, str) else [name]


def _fields(name: Any) -> list[str]:
    known = isinstance(name, str) and name in STRATEGIES
    if not known:
        return []
    return [*(field.name for field in dataclasses.fields(STRATEGIES[name])), *STRATEGIES[name].renamed]


def _make_one(name: Any, preset: str | None, given: Mapping[str, Any]) -> Strategy:
    known = isinstance(name, str) and name in STRATEGIES
    if not known and isinstance(name, str):
        from deni.baselines import BASELINES, where_it_runs

        if name in BASELINES:
            raise SettingError(where_it_runs(name))
    defaults = STRATEGIES[name].presets.get(preset or "", {}) if known else {}
    own = without_missing(STRATEGIES[name], given) if known else given
    return make("strategy", STRATEGIES, name, {**defaults, **own})


def __getattr__(name: str) -> Any:
    return class_of(__name__, name)


__all__ = ["ALIASES", "ARGUMENTS", "PRESETS", "STRATEGIES", "Setup", "Strategy", "has_setting", "make_strategy"]
