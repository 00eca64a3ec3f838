"""The axis on which the scores of the demo lie."""

from __future__ import annotations

import math
from collections.abc import Iterable

STEPS = (1, 2, 5, 10, 20)  # points between two ticks
TICKS = 6  # at most


def ticks_of(scores: Iterable[float]) -> list[int]:
    """Round numbers around all scores, in points, at equal distances.

    >>> ticks_of([0.582, 0.661, 0.703])
    [55, 60, 65, 70, 75]
    """
    points = [100 * score for score in scores]
    for step in STEPS:
        low, high = math.floor(min(points) / step), math.ceil(max(points) / step)
        high = max(high, low + 1)
        if high - low < TICKS:
            break
    return [step * at for at in range(low, high + 1)]


def place_of(score: float, ticks: list[int]) -> float:
    """Where a score lies between the first tick, 0, and the last, 1."""
    return (100 * score - ticks[0]) / (ticks[-1] - ticks[0])
