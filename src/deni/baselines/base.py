"""What a baseline is: what a user would pick in place of fine-tuning, with what a study asks of a strategy.

A study, a diagnosis and a report hold it by the hooks of `Strategy`: a name, settings, no member-steps. A trainer
refuses it, since there is nothing to train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.errors import InputError, SettingError
from deni.registry import Registry
from deni.schedule import Schedule
from deni.strategies.base import Setup, Strategy
from deni.tasks import TASKS, Task

if TYPE_CHECKING:
    from deni.data import Text, Texts
    from deni.recipe import Recipe

BASELINES: Registry[Baseline] = Registry("baseline", "deni.baselines")


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline that knows its labeled texts.

    Args:
        labels: names of the C outputs.
        outputs: of texts, `(N, C)`, or of the words of all texts, `(W, C)`: log probabilities, log odds of several
            labels, or numbers, as a fine-tuned model's.
        notes: what was chosen in fitting, such as `c`, or counted in predicting, such as tokens.
    """

    labels: list[str]
    outputs: Callable[[Sequence[Text]], np.ndarray] = field(repr=False)
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline(Strategy):
    """A baseline. A name registers it: `class Tfidf(Baseline, name="tfidf")`; its fields are its settings."""

    generates: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("scikit-learn",)  # whose version may change what it predicts
    on_request: ClassVar[bool] = False  # it runs only where it is named: it costs money, or much time

    def __init_subclass__(cls, name: str | None = None, row: int | None = None, **options: Any) -> None:
        """Register a class that has a name; `row` is its place in listings."""
        super().__init_subclass__(**options)  # without its name: a trainer's strategies are others
        if name is not None:
            cls.name = name
            BASELINES.add(name, cls, row)

    def why_unfit(self, task: Task, pairs: bool) -> str:
        """Why it makes no sense for such texts; empty where it does."""
        return ""

    def check(self) -> None:
        """Raise InputError for what is missing, such as a package, before anything is trained or read."""

    def remark(self, notes: Mapping[str, Any]) -> str:
        """What a report says behind its score, from the notes of a fit; empty for nothing."""
        return ""

    def fit(self, train: Texts, recipe: Recipe, device: Any = None) -> FittedBaseline:
        """Learn from labeled texts.

        Args:
            recipe: names the encoder, how it reads texts, and whether classes are weighted; the rest is of training.
            device: where the encoder computes, see `deni.models.devices.find_device`.

        Raises:
            SettingError: texts for which it makes no sense.
            InputError: one class alone, or what `check` finds missing.
        """
        from deni.data import names

        task, labels = TASKS[train.task], names(train)
        if why := self.why_unfit(task, train.pairs):
            raise SettingError(f"{self.name} {why}")
        if task.one_class and len(labels) < 2:
            raise InputError(f"{train.source}: all texts have the label {labels[0]!r}, a classifier needs 2 classes")
        self.check()
        return self.learn(train, labels, recipe, device)

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        """`fit`, for texts that fit."""
        raise NotImplementedError

    # ---- as a strategy ---------------------------------------------------------------------------------------------

    def schedule(self, steps: int) -> Schedule:
        """No phase at all."""
        return Schedule(())

    def settings(self) -> dict[str, Any]:
        """With the versions of the packages that fit it: of a cell's key, where those of other cells have no room."""
        return {**super().settings(), **{f"{name} version": version(name) for name in self.packages}}

    def conflicts_with(self, other: Strategy) -> str:
        return f"{self.name} is a baseline, which trains nothing that {other.name} could change"

    def prepare(self, setup: Setup) -> Setup:
        raise SettingError(where_it_runs(self.name))


def where_it_runs(name: str) -> str:
    """What to say to somebody who wants to train with a baseline."""
    return (
        f"{name} is a baseline, which trains no encoder: it runs in deni study, in deni diagnose and in "
        "deni.baselines, and deni train reports it beside each model; choose a strategy here"
    )
