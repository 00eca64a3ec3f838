"""Longer training with bias correction, warm-up and weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from deni.errors import SettingError
from deni.strategies.base import Strategy


@dataclass(frozen=True)
class BestPractices(Strategy, name="best_practices", paper_row=3):
    """Train longer, with AdamW, bias correction and warm-up (Mosbach et al. 2021; arXiv 2406.12471).

    The optimizers of torch correct the bias by themselves. A setting of None leaves the training arguments unchanged.

    Args:
        epochs: passes over the texts, above 0; 20 in the paper.
        weight_decay: weight decay of AdamW, at least 0; 0.01 in Mosbach et al. (the released code has none).
        warmup_ratio: share of the steps with a rising learning rate, in [0, 1); 0.1 in the paper.
    """

    when: ClassVar[str] = (
        "As a baseline at the cost of one model, or together with another strategy (best_practices+deni)."
    )

    presets: ClassVar = {"released": {"weight_decay": 0.0}}

    epochs: float | None = 20
    weight_decay: float | None = 0.01
    warmup_ratio: float | None = 0.1

    def __post_init__(self) -> None:
        if self.epochs is not None and not (self.epochs > 0 and math.isfinite(self.epochs)):
            raise SettingError(f"epochs must be above 0, not {self.epochs}")
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise SettingError(f"weight_decay must be at least 0, not {self.weight_decay}")
        if self.warmup_ratio is not None and not 0 <= self.warmup_ratio < 1:
            raise SettingError(f"warmup_ratio must be in [0, 1), not {self.warmup_ratio}")
