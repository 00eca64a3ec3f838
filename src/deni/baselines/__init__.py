"""What a user would pick in place of fine-tuning: one file for each baseline.

A study, a diagnosis and the report of a training have them beside strategies. In Python: `BaselineClassifier`, or
`make_baseline(name).fit(...)` for all kinds of labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deni.baselines.base import BASELINES, Baseline, FittedBaseline, where_it_runs
from deni.registry import class_of
from deni.settings import make
from deni.strategies import STRATEGIES, Strategy, make_strategy

if TYPE_CHECKING:
    from deni.baselines._classifier import BaselineClassifier as BaselineClassifier
    from deni.tasks import Task


def make_baseline(name: str, **settings: Any) -> Baseline:
    """The baseline of that name; raises SettingError for a name or setting that does not exist.

    >>> make_baseline("tfidf").name
    'tfidf'
    """
    return make("baseline", BASELINES, name, settings)


def is_baseline(name: Any) -> bool:
    """Whether this is the name of a baseline; a strategy comes before it."""
    return isinstance(name, str) and name not in STRATEGIES and name in BASELINES


def usual_baselines(task: Task, pairs: bool = False) -> list[Baseline]:
    """Those that make sense for texts of a task, without those that run only where they are named."""
    made = [cls() for cls in BASELINES.built_in().values() if not cls.on_request]
    return [each for each in made if not each.why_unfit(task, pairs)]


def strategy_or_baseline(name: str) -> type[Strategy]:
    """The class of this name; a strategy comes before a baseline."""
    return STRATEGIES[name] if name in STRATEGIES else BASELINES[name]


def make_strategy_or_baseline(name: str, preset: str | None = None, **settings: Any) -> Strategy:
    """The strategy, or the baseline, of that name; arguments and errors as of `deni.strategies.make_strategy`."""
    return make_baseline(name, **settings) if is_baseline(name) else make_strategy(name, preset, **settings)


def __getattr__(name: str) -> Any:
    if name == "BaselineClassifier":  # with scikit-learn, which a command that lists names need not wait for
        from deni.baselines._classifier import BaselineClassifier

        return BaselineClassifier
    return class_of(__name__, name)


__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineClassifier",
    "FittedBaseline",
    "is_baseline",
    "make_baseline",
    "make_strategy_or_baseline",
    "strategy_or_baseline",
    "usual_baselines",
    "where_it_runs",
]
