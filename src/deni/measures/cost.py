"""Gain in score and drop in spread per member-step, and the Pareto front of strategies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, as_numbers


class Gain(NamedTuple):
    """Per extra member-step: the `gain` in the mean score and the `drop` in its SD; each `(K,)`."""

    gain: Floats
    drop: Floats


def gain_per_step(cost: ArrayLike, mean: ArrayLike, sd: ArrayLike, baseline: int = 0) -> Gain:
    """What each strategy adds for each member-step more than the baseline's.

    Args:
        cost: member-steps, `(K,)`, above 0.
        mean: mean score, `(K,)`.
        sd: SD of the score over the seeds, `(K,)`.
        baseline: which of the K strategies the others are compared with.

    Returns:
        NaN for the baseline, and where a strategy costs no more: there is no extra step to divide by.

    >>> gain_per_step([1000, 2000, 5000], [0.80, 0.82, 0.84], [0.04, 0.03, 0.02]).gain * 1000
    array([ nan, 0.02, 0.01])
    """
    each = _table(cost=cost, mean=mean, sd=sd)
    steps, means, spreads = each["cost"], each["mean"], each["sd"]
    if not 0 <= baseline < len(steps):
        raise InputError(f"baseline must be one of the {len(steps)} strategies, from 0 on, not {baseline}")
    if (steps <= 0).any() or (spreads < 0).any():
        raise InputError("cost must be above 0 and sd at least 0, for each strategy")
    extra = steps - steps[baseline]
    extra = np.where(extra > 0, extra, np.nan)
    return Gain((means - means[baseline]) / extra, (spreads[baseline] - spreads) / extra)


def pareto_front(cost: ArrayLike, value: ArrayLike, *, lower_is_better: bool = False) -> np.ndarray:
    """The strategies that no other one dominates in both cost and value.

    Args:
        cost: `(K,)`.
        value: `(K,)`: a mean score; or an SD, with `lower_is_better`.

    Returns:
        Booleans `(K,)`; equal strategies are on the front together.

    >>> pareto_front([1, 2, 3], [0.80, 0.79, 0.85])
    array([ True, False,  True])
    """
    each = _table(cost=cost, value=value)
    steps, goods = each["cost"], each["value"] * (-1 if lower_is_better else 1)
    as_good = (steps <= steps[:, None]) & (goods >= goods[:, None])  # (K, K): is the column as good as the row?
    better = (steps < steps[:, None]) | (goods > goods[:, None])
    return np.logical_not((as_good & better).any(1))


def _table(**columns: ArrayLike) -> dict[str, Floats]:
    arrays = {name: as_numbers(name, values, "K") for name, values in columns.items()}
    shapes = {name: each.shape for name, each in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"one value for each strategy (K,) is needed, not the shapes {shapes}")
    return arrays
