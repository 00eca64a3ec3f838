"""Which texts train, develop and test."""

from __future__ import annotations

import bisect
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from deni.errors import InputError, InputWarning, SettingError
from deni.tasks import TASKS

Indices = np.ndarray[tuple[int], np.dtype[np.intp]]


def strata(labels: Sequence[Any], task: str) -> list[str]:
    """What texts are split and chosen by: their label, the rarest one of several; the type of entity that the fewest
    texts have, of those in the text; for numbers all alike.

    >>> strata([("a", "b"), ("a",), ()], "multi_label")
    ['b', 'a', '']
    """
    classes = [TASKS[task].classes_in(label) for label in labels]
    counts = Counter(label for own in classes for label in own)
    return [min(own, key=lambda label: (counts[label], label), default="") for own in classes]


def stratified_split(labels: Sequence[str], fraction: float, generator: np.random.Generator) -> tuple[Indices, Indices]:
    """Split positions in two, every class in the same proportion as far as whole texts allow.

    A class of two or more texts has at least one on each side; a class of one text stays in the first part. (The
    stratified splits of scikit-learn refuse such a class, and may leave a small one out of the second part.)

    Args:
        labels: one a text.
        fraction: of the second part, in (0, 1).

    Returns:
        The positions of the rest and of the part, each in ascending order.

    Raises:
        InputError: the fraction is outside (0, 1), or the part would be empty.

    Warns:
        InputWarning: a class of one text.

    >>> rest, part = stratified_split(["a", "b"] * 5, 0.4, np.random.default_rng(0))
    >>> rest.tolist(), part.tolist()
    ([0, 1, 2, 5, 6, 7], [3, 4, 8, 9])
    """
    if not 0 < fraction < 1:
        raise InputError(f"a part of {fraction} of the texts: expected a fraction above 0 and below 1, such as 0.2")
    classes, positions = _positions(labels)
    counts = np.array([len(of_class) for of_class in positions], dtype=int)
    divisible = counts > 1
    if not divisible.any():
        raise InputError(
            f"a split of {fraction} would be empty: none of the {len(counts)} classes has two texts; add labeled "
            "examples"
        )
    if not divisible.all():
        single = [classes[c] for c in np.flatnonzero(~divisible)]
        warnings.warn(
            f"only one text has the label {', '.join(map(repr, single))}: it stays in the training split",
            InputWarning,
            stacklevel=2,
        )
    share = fraction * counts * divisible
    most = np.maximum(counts - 1, 0)
    quota = np.clip(np.floor(share).astype(int), divisible.astype(int), most)
    # The texts lost by rounding down go to the classes that lost most.
    missing = max(round(share.sum()) - quota.sum(), 0)
    lost = np.where(quota < most, share - quota, 0)
    takers = np.argsort(-lost, kind="stable")[:missing]
    quota[takers] += lost[takers] > 0
    part = _choice(positions, quota, generator)
    return np.setdiff1d(np.arange(len(labels)), part), part


def choose_balanced(
    labels: Sequence[str],
    n: int,
    generator: np.random.Generator,
    *,
    rule: Literal["exact", "rounded_up"] = "exact",
) -> Indices:
    """Choose labeled examples, as many of one class as of another.

    Equal generator states choose equally; a smaller choice is in general no part of a larger one.

    Args:
        labels: one a text.
        n: how many texts.
        rule: "exact" chooses `n` texts, as balanced as can be: where `n` does not divide by C, the number of classes,
            it is drawn which classes have one more; where a class runs short the others fill up. "rounded_up" chooses
            ceil(n/C) of each class, at least 2, and does not fill up, so that the number differs from `n`: the
            released code of arXiv 2406.12471.

    Returns:
        Positions in ascending order.

    Raises:
        InputError: `n` is below 1 or above the number of texts.

    Warns:
        InputWarning: `n` is smaller than the number of classes, so that classes are left out.

    >>> choose_balanced(["a", "a", "a", "b"], 3, np.random.default_rng(0)).tolist()
    [0, 2, 3]
    """
    if not 1 <= n <= len(labels):
        raise InputError(
            f"{n} labeled examples asked for, but there are {len(labels)}: choose from 1 to {len(labels)} (--labeled)"
        )
    _, positions = _positions(labels)
    counts = np.array([len(of_class) for of_class in positions])
    if rule == "rounded_up":
        quota = np.minimum(counts, max(math.ceil(n / len(counts)), 2))
    elif rule == "exact":
        quota = _level(counts, n, generator)
    else:
        raise SettingError(f"no rule {rule!r}: choose 'exact' or 'rounded_up'")
    if not quota.all():
        warnings.warn(
            f"{n} labeled examples for {len(counts)} classes leave {np.sum(quota == 0)} classes out: "
            f"choose at least {len(counts)}",
            InputWarning,
            stacklevel=2,
        )
    return _choice(positions, quota, generator)


def choose_stratified(labels: Sequence[str], n: int, generator: np.random.Generator) -> Indices:
    """Choose `n` texts, every class in the same proportion as far as whole texts allow.

    Each class gets its share rounded down; what is missing goes to those that lost most, the first of equals.

    Returns:
        Positions in ascending order.

    Raises:
        InputError: `n` is below 1 or above the number of texts.

    >>> choose_stratified(["a", "a", "a", "a", "b", "b"], 3, np.random.default_rng(0)).tolist()
    [0, 2, 5]
    """
    if not 1 <= n <= len(labels):
        raise InputError(f"{n} texts asked for, but there are {len(labels)}: choose from 1 to {len(labels)}")
    _, positions = _positions(labels)
    counts = np.array([len(of_class) for of_class in positions])
    quota, lost = np.divmod(n * counts, len(labels))
    quota[np.argsort(-lost, kind="stable")[: n - quota.sum()]] += 1
    return _choice(positions, quota, generator)


def _level(counts: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Fill the classes evenly with `n` texts; the ones that get one more at the end are drawn."""
    level = bisect.bisect_right(range(counts.max() + 1), n, key=lambda level: np.minimum(counts, level).sum()) - 1
    quota = np.minimum(counts, level)
    deeper = generator.permutation(np.flatnonzero(counts > level))
    quota[deeper[: n - quota.sum()]] += 1
    return quota


def _positions(labels: Sequence[str]) -> tuple[list[str], list[Indices]]:
    """Find each class's positions; classes in alphabetical order."""
    codes, classes = pd.factorize(np.asarray(labels, dtype=object), sort=True)
    by_class = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(classes)))
    return list(classes), np.split(by_class, ends)[:-1]


def _choice(positions: list[Indices], quota: np.ndarray, generator: np.random.Generator) -> Indices:
    """Draw each class's quota of positions; ascending."""
    return np.sort(np.concatenate([generator.permutation(p)[:q] for p, q in zip(positions, quota, strict=True)]))
