"""The settings of a distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deni.errors import SettingError
from deni.settings import check_choices, check_numbers


@dataclass(frozen=True)
class Distillation:
    """How a student learns from a teacher, besides its recipe.

    Args:
        start: where the student starts: `encoder`, as any fine-tuning, or `merged`: the mean of the teacher's members.
        vote_temperature: what the log probabilities of the vote are divided by before they are targets; none for that
            which the teacher was calibrated with, else 1.
        labels_share: share of the given label in the target of a labeled text, in [0, 1]; the rest is out-of-fold.
        weights: how much a text of the pool counts: `agreement`, the share of the members that agree with their vote,
            or `equal`.
        pool_size: most texts of the pool to train on; none for as many as fit.
        held_out: texts of the pool that measure whether the student agrees with the teacher, at most one in ten.
    """

    start: Literal["encoder", "merged"] = "encoder"
    vote_temperature: float | None = None
    labels_share: float = 0.5
    weights: Literal["agreement", "equal"] = "agreement"
    pool_size: int | None = None
    held_out: int = 100

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers({"vote_temperature": self.vote_temperature, "labels_share": self.labels_share})
        if self.vote_temperature is not None and not self.vote_temperature > 0:
            raise SettingError(f"vote_temperature must be above 0, not {self.vote_temperature}")
        if not 0 <= self.labels_share <= 1:
            raise SettingError(f"labels_share must be in [0, 1], not {self.labels_share}")
        if self.pool_size is not None and self.pool_size < 1:
            raise SettingError(f"pool_size must be at least 1, not {self.pool_size}")
        if self.held_out < 0:
            raise SettingError(f"held_out must be at least 0, not {self.held_out}")
