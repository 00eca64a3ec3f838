"""Stochastic weight averaging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.strategies.averaging import Averaging
from deni.strategies.forking import check_fraction, part

if TYPE_CHECKING:
    from deni.population import Population


@dataclass(frozen=True)
class SWA(Averaging, name="swa", paper_row=8):
    """The running mean of the parameters predicts (Izmailov et al. 2018; arXiv 2406.12471).

    Args:
        average_from: where the mean begins, as a fraction of all steps; 0.25 in the paper. Every step counts.
        swa_rate: constant learning rate once the mean has begun, as a part of the peak; None (the paper) leaves the
            schedule.
    """

    when: ClassVar[str] = "When training and prediction may each cost no more than one model."

    average_from: float = 0.25
    swa_rate: float | None = None

    def __post_init__(self) -> None:
        check_fraction("average_from", self.average_from)
        if self.swa_rate is not None and not self.swa_rate > 0:
            raise SettingError(f"swa_rate must be above 0, not {self.swa_rate}")

    def mean_function(self) -> Callable:
        from torch.optim.swa_utils import get_swa_multi_avg_fn

        return get_swa_multi_avg_fn()

    def rate_at(self, step: int, steps: int) -> float | None:
        return self.swa_rate if step >= part(self.average_from, steps) else None

    def after_step(self, population: Population, step: int, steps: int) -> None:
        if step >= part(self.average_from, steps):
            self.update(population)
