"""Texts to augment, and an augmenter that adds numbers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from deni.augmentation import Augmenter

TEXTS = ["where is my parcel", "the card is charged", "reset my password please", "late courier"]
LABELS = [1, 0, 2, 1]


@dataclass(frozen=True)
class Numbered(Augmenter):
    """Adds random numbers to a text.

    Args:
        least: the lowest number.
        seconds: to wait before each batch.
    """

    name: ClassVar[str] = "numbered"
    batch: ClassVar[int] = 2
    incidental: ClassVar[frozenset[str]] = frozenset({"seconds"})

    least: int = 0
    seconds: float = 0.0

    def make(
        self, texts: Sequence[str], labels: Sequence[str], n: int, generators: Sequence[np.random.Generator]
    ) -> list[list[str]]:
        assert len(texts) <= self.batch
        time.sleep(self.seconds)
        return [
            [f"{text} {label} {draw.integers(self.least, 10**9)}" for _ in range(n)]
            for text, label, draw in zip(texts, labels, generators, strict=True)
        ]
