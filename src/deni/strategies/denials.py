"""DENI on labeled and augmented texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.strategies.augmentation import Augmentation
from deni.strategies.deni import DENI


@dataclass(frozen=True)
class Denials(DENI, Augmentation, name="denials", paper_row=15):
    """One augmented text for each labeled one, and DENI (arXiv 2406.12471).

    Args:
        epochs: passes over all texts; 10 in the released code, not augmentation's 12.
    """

    when: ClassVar[str] = (
        "When augmented texts are available, and several times the cost of one fine-tuning run is affordable."
    )

    epochs: float | None = 10

    def __post_init__(self) -> None:
        DENI.__post_init__(self)
        Augmentation.__post_init__(self)
