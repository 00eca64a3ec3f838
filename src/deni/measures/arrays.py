"""What arrays must look like before anything is computed of them, and what an estimate looks like."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from deni.errors import InputError, short

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Estimate(NamedTuple):
    """A value with the two ends of its confidence interval: numbers, or arrays of one shape."""

    value: Any
    low: Any
    high: Any


def as_numbers(name: str, values: ArrayLike, axes: str) -> Floats:
    """Read numbers as float64, with as many axes as `axes` names (`... N C`: at least two); NaN is refused.

    >>> as_numbers("scores", [1, 2], "S")
    array([1., 2.])
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array of numbers ({axes}), not {short(values)}") from None
    wanted = axes.split()
    least = len(wanted) - ("..." in wanted)
    if array.ndim < least or (array.ndim > least and "..." not in wanted):
        raise InputError(f"{name} must have the axes ({axes}), not shape {array.shape}")
    if array.size == 0:
        raise InputError(f"{name} is empty: its shape is {array.shape}")
    if np.isnan(array).any():
        raise InputError(f"{name} of shape {array.shape} has {int(np.isnan(array).sum())} NaN")
    return array


def as_scores(name: str, values: ArrayLike, least: int = 1, axes: str = "S ...") -> Floats:
    """Read scores, seeds first, as float64; they are finite, and there are at least `least` seeds."""
    scores = as_numbers(name, values, axes)
    if len(scores) < least:
        raise InputError(f"{name} must have at least {least} seeds (axis 0), not shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError(f"{name} of shape {scores.shape} has infinite values; a failed run has a finite score, too")
    return scores


def as_pairs(first: ArrayLike, second: ArrayLike, least: int, axes: str = "S ...") -> tuple[Floats, Floats]:
    """Read the scores of two strategies, seed by seed: two arrays of one shape."""
    one, other = as_scores("first", first, axes=axes), as_scores("second", second, axes=axes)
    if one.shape != other.shape:
        raise InputError(f"first and second are paired seed by seed: shapes {one.shape} and {other.shape} differ")
    if len(one) < least:
        raise InputError(f"first and second must have at least {least} seeds (axis 0), not shape {one.shape}")
    return one, other


def as_classes(name: str, values: ArrayLike, axes: str) -> Ints:
    """Read class numbers from 0 on, with the axes that `axes` names.

    >>> as_classes("gold", [0, 2, 1], "N")
    array([0, 2, 1])
    """
    array = np.asarray(values)
    if array.size == 0:
        raise InputError(f"{name} is empty: its shape is {array.shape}, and its axes are ({axes})")
    if array.dtype.kind not in "iu":
        raise InputError(f"{name} must be class numbers (integers from 0 on), not {array.dtype}")
    if array.ndim != len(axes.split()):
        raise InputError(f"{name} must have the axes ({axes}), not shape {array.shape}")
    if array.min() < 0:
        raise InputError(f"{name} has the class number {array.min()}; they count from 0")
    return array.astype(np.int64)


def as_predictions(predictions: ArrayLike, gold: ArrayLike) -> tuple[Ints, Ints]:
    """Read predictions `(S, N)` and the right classes `(N,)`."""
    chosen, right = as_classes("predictions", predictions, "S N"), as_classes("gold", gold, "N")
    if chosen.shape[1] != len(right):
        raise InputError(f"predictions (S, N) have shape {chosen.shape}, but gold (N,) has {right.shape}")
    return chosen, right


def as_log_probabilities(name: str, values: ArrayLike, axes: str = "... N C") -> Floats:
    """Read log probabilities, classes last; they are normalized beyond the rounding of float16.

    Raises:
        InputError: probabilities do not add up to 1 within 1 %; logits need a log-softmax first.

    >>> float(np.exp(as_log_probabilities("p", np.log([[0.25, 0.75]]))).sum())
    1.0
    """
    array = as_numbers(name, values, axes)
    with np.errstate(over="ignore"):
        total = np.exp(array).sum(-1)
    if not (np.abs(total - 1) < 0.01).all():
        worst = total.flat[np.abs(total - 1).argmax()]
        raise InputError(
            f"{name} of shape {array.shape} must be log probabilities, classes last: they add up to {worst:.4g}, not 1;"
            " apply a log-softmax to logits, a logarithm to probabilities"
        )
    return array - scipy.special.logsumexp(array, axis=-1, keepdims=True)


def with_gold(log_probabilities: ArrayLike, gold: ArrayLike) -> tuple[Floats, Ints]:
    """Read log probabilities `(..., N, C)` and the right classes `(N,)`, below C."""
    array, right = as_log_probabilities("log_probabilities", log_probabilities), as_classes("gold", gold, "N")
    if array.shape[-2] != len(right):
        raise InputError(f"log_probabilities (..., N, C) have shape {array.shape}, but gold (N,) has {right.shape}")
    if right.max() >= array.shape[-1]:
        raise InputError(f"gold has the class {right.max()}, but log_probabilities have {array.shape[-1]} classes")
    return array, right


def check_share(name: str, value: float) -> None:
    """Raise InputError unless a value is strictly between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"{name} must be between 0 and 1, not {value}")


def check_alternative(value: str) -> None:
    """Raise InputError unless this is a side of a test."""
    if value not in ("two-sided", "less", "greater"):
        raise InputError(f"alternative must be two-sided, less or greater, not {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise InputError unless a value is finite and above 0."""
    if not (value > 0 and np.isfinite(value)):
        raise InputError(f"{name} must be above 0 and finite, not {value}")


def check_least(name: str, value: int, least: int) -> None:
    """Raise InputError for a number below `least`."""
    if value < least:
        raise InputError(f"{name} must be at least {least}, not {value}")
