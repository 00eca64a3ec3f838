"""An ensemble that is forked from one model near the end of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.schedule import Phase
from deni.strategies.forking import Forking, check_fraction, part


@dataclass(frozen=True)
class DelayedEnsemble(Forking, name="delayed_ensemble", paper_row=12):
    """Fork near the end, train the members to the end, let them vote (arXiv 2406.12471).

    Args:
        ensemble_from: where the fork is, as a fraction of all steps; 0.9 in the paper.
    """

    when: ClassVar[str] = "When an ensemble would help but is too expensive."

    of_forks: ClassVar[tuple[str, ...]] = ("ensemble_from",)

    ensemble_from: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_fraction("ensemble_from", self.ensemble_from)

    def phases(self, steps: int) -> list[Phase]:
        start = max(0, min(part(self.ensemble_from, steps), steps - 1) - self.shift)
        # Ensemble noise keeps its variance, interpolation noise fades as 1/step: both as in the released code.
        last = Phase(start, steps, self.members, self.fork(start), merge=False)
        return [*super().phases(steps), last]
