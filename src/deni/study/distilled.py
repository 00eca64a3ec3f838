"""Distillation as a row of a study: one model that learned the vote of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from deni.baselines.base import Baseline, FittedBaseline
from deni.data.named_datasets import DATASETS
from deni.errors import SettingError, did_you_mean
from deni.schedule import Schedule
from deni.settings import setting
from deni.strategies import Strategy, make_strategy

if TYPE_CHECKING:
    from deni.data import Texts
    from deni.recipe import Recipe

FOLDS, STUDENT = 5, 2  # of one member each, on four fifths of the texts; T that the student has at most


@dataclass(frozen=True)
class Distilled(Baseline, name="distilled"):
    """One model that learns the vote of many, on texts that are neither labeled nor measured on.

    A study knows such texts: those of the dataset that are left. Seed s of the student learns from teacher s, and the
    cost is that of teacher, folds and student, see `deni.distillation`.

    Args:
        taught: the strategy of the student, and of the members of the teacher; with `auto` strategy, epochs and rates
            are what its table says for the labeled texts.
        taught_settings: of that strategy, by which `auto` keeps what it became; a study file leaves them out.
        teachers: members of the teacher, at least 2.
        pool_size: texts without labels at most, at least 1; unset for as many as fit.
        pool_of: another dataset, whose texts are the pool.
        student_start: where the student starts: `encoder`, or `merged`: the mean of the teacher's members.
        labels_share: share of the given label in the target of a labeled text, in [0, 1]; the rest is out-of-fold.
    """

    when: ClassVar[str] = "To know how much of an ensemble one model keeps, where there are texts without labels."
    packages: ClassVar[tuple[str, ...]] = ()
    on_request: ClassVar[bool] = True

    taught: str = "default"
    teachers: int = 10
    pool_size: int | None = None
    pool_of: str | None = None
    student_start: Literal["encoder", "merged"] = "encoder"
    labels_share: float = 0.5
    taught_settings: dict[str, Any] | None = setting(None, neutral=None)

    def __post_init__(self) -> None:
        if self.teachers < 2:
            raise SettingError(f"teachers must be at least 2, not {self.teachers}")
        if self.pool_size is not None and self.pool_size < 1:
            raise SettingError(f"pool_size must be at least 1, not {self.pool_size}")
        if self.pool_of is not None and self.pool_of not in DATASETS:
            raise SettingError(f"pool_of is no dataset: {self.pool_of!r}; {did_you_mean(self.pool_of, DATASETS)}")
        if self.student_start not in ("encoder", "merged"):
            raise SettingError(f"student_start must be encoder or merged, not {self.student_start!r}")
        if not 0 <= self.labels_share <= 1:
            raise SettingError(f"labels_share must be in [0, 1], not {self.labels_share}")
        if self.strategy.votes:
            raise SettingError(f"{self.taught} ends with several members: name what one of them is trained by")

    @property
    def strategy(self) -> Strategy:
        """What is taught."""
        return make_strategy(self.taught, **(self.taught_settings or {}))

    def schedule(self, steps: int) -> Schedule:
        """As many runs as teacher, folds and student cost together, at most."""
        return Schedule.of([], steps, runs=self.teachers + FOLDS - 1 + STUDENT)

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        raise SettingError("distilled needs texts without labels, which a study has: take deni train --unlabelled")
