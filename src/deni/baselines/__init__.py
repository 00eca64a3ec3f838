"""What a user would pick in place of fine-tuning: one file for each baseline.

A study, a diagnosis and the report of a training have them beside strategies. In Python: `BaselineClassifier`, or
`make_baseline(name).fit(...)` for all kinds of labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deni.baselines.base import BASELINES, Baseline, FittedBaseline, where_it_runs
from deni.errors import SettingError, did_you_mean, short
from deni.registry import class_of
from deni.strategies import STRATEGIES, Strategy, make_strategy

if TYPE_CHECKING:
    from deni.baselines.classifier import BaselineClassifier as BaselineClassifier


def make_baseline(name: str) -> Baseline:
    """The baseline of that name; raises SettingError for one that does not exist.

    >>> make_baseline("tfidf").name
    'tfidf'
    """
    if name not in BASELINES:
        raise SettingError(f"unknown baseline {short(name)}: {did_you_mean(str(name), BASELINES)}")
    return BASELINES[name]()


def baseline_or_name(name: str) -> Strategy | str:
    """The baseline of this name; the name where it is a strategy's, or nobody's."""
    return name if name in STRATEGIES or name not in BASELINES else make_baseline(name)


def strategy_or_baseline(name: str) -> type[Strategy]:
    """The class of this name; a strategy comes before a baseline."""
    return STRATEGIES[name] if name in STRATEGIES else BASELINES[name]


def make_strategy_or_baseline(name: str, preset: str | None = None, **settings: Any) -> Strategy:
    """The strategy, or the baseline, of that name; arguments and errors as of `deni.strategies.make_strategy`."""
    return make_strategy(baseline_or_name(name), preset, **settings)


def __getattr__(name: str) -> Any:
    if name == "BaselineClassifier":  # with scikit-learn, which a command that lists names need not wait for
        from deni.baselines.classifier import BaselineClassifier

        return BaselineClassifier
    return class_of(__name__, name)


__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineClassifier",
    "FittedBaseline",
    "baseline_or_name",
    "make_baseline",
    "make_strategy_or_baseline",
    "strategy_or_baseline",
    "where_it_runs",
]
