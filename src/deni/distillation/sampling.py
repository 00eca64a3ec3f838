"""How many optimizer steps a student has, and how many texts of the pool it sees in them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deni.errors import SettingError
from deni.randomness import derive

MOST = 2  # times the steps of the recipe on the labeled texts alone


@dataclass(frozen=True)
class Length:
    """How long a student trains.

    Args:
        steps: optimizer steps.
        epochs: passes over its texts, those that are labeled and those of the pool.
        pool: texts of the pool.
    """

    steps: int
    epochs: float
    pool: int


def fit_length(labeled: int, pool: int, epochs: float, batch_size: int, rows: int | None = None) -> Length:
    """The length of a student's training: that of its recipe, but at most 2 T steps.

    T is how many steps the recipe has on the labeled texts alone. Where labeled and pool texts together need more than
    2 T, epochs are cut first, down to 1; if one epoch is too long, too, so many texts of the pool are left out that it
    fits.

    Args:
        labeled: texts that T is counted on.
        pool: texts of the pool.
        epochs: of the recipe.
        batch_size: texts of an optimizer step.
        rows: labeled texts that the student trains on; None for all `labeled` ones.

    Raises:
        SettingError: no room for a text of the pool.

    >>> fit_length(labeled=200, pool=300, epochs=10, batch_size=8)
    Length(steps=500, epochs=7.936507, pool=300)
    >>> fit_length(labeled=200, pool=5000, epochs=10, batch_size=8)
    Length(steps=500, epochs=1.0, pool=3800)
    """
    rows = labeled if rows is None else rows
    most = MOST * _steps(labeled, epochs, batch_size)  # 2 T
    each = math.ceil((rows + pool) / batch_size)
    if _steps(rows + pool, epochs, batch_size) <= most:
        return Length(_steps(rows + pool, epochs, batch_size), epochs, pool)
    if each <= most:
        epochs = max(1.0, _epochs(most, each))
        return Length(_steps(rows + pool, epochs, batch_size), epochs, pool)
    room = most * batch_size - rows
    if room < 1:
        raise SettingError(
            f"{most} steps, twice those of {labeled} labeled texts, leave no room for a text of the pool: give more "
            "epochs"
        )
    return Length(most, 1.0, room)


def draw(count: int, size: int, seed: int) -> np.ndarray:
    """`size` of `count` rows without replacement, in their order.

    >>> draw(3, 3, seed=0).tolist()
    [0, 1, 2]
    """
    generator = np.random.default_rng(derive(seed, "distillation", "pool"))
    return np.sort(generator.choice(count, size, replace=False))


def _steps(texts: int, epochs: float, batch_size: int) -> int:
    """Optimizer steps, as Trainer counts them."""
    return math.ceil(epochs * math.ceil(texts / batch_size))


def _epochs(steps: int, each: int) -> float:
    """So many that Trainer makes these steps of them, where an epoch has `each`; six places."""
    epochs = math.floor(steps / each * 1e6) / 1e6
    return epochs if math.ceil(epochs * each) <= steps else epochs - 1e-6
