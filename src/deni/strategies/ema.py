"""Exponential moving average of the parameters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deni.errors import SettingError
from deni.strategies.averaging import Averaging

if TYPE_CHECKING:
    from deni.population import Population

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EMA(Averaging, name="ema", paper_row=9):
    """The exponential mean of the parameters since the first step predicts (arXiv 2406.12471).

    Args:
        ema_decay: share of the mean that stays at each step, in [0, 1); 0.999 in the paper. 0 is the last step alone.
    """

    when: ClassVar[str] = "When training and prediction may each cost no more than one model."

    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise SettingError(f"ema_decay must be in [0, 1), not {self.ema_decay}")

    def mean_function(self) -> Callable:
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        return get_ema_multi_avg_fn(self.ema_decay)

    def after_step(self, population: Population, step: int, steps: int) -> None:
        self.update(population)
        start = self.ema_decay ** (step - 1)
        if step == steps and start > 0.1:
            logger.warning(
                f"Warning: the mean of {steps} steps is {start:.0%} the parameters of the first one: lower --ema-decay "
                f"{self.ema_decay:g}, or train longer"
            )
