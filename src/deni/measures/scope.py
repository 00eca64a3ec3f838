"""How unlike the labeled texts is a text? Mahalanobis distances of feature vectors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, as_numbers

_LEAST = 1e-6  # shrinkage, with which the covariance of any vectors has an inverse


class Gaussian(NamedTuple):
    """Where vectors of labeled texts lie: `mean` `(D,)`, `root` `(D, D)` of the inverse covariance, `distances` `(N,)`.

    `distances` are those of the labeled texts, each left out of mean and covariance.
    """

    mean: Floats
    root: Floats
    distances: Floats


def fit_gaussian(labeled: ArrayLike) -> Gaussian:
    """The mean of vectors `(N, D)`, and their covariance, shrunken as Ledoit and Wolf (2004) do.

    >>> fit_gaussian([[0.0, 1.0], [2.0, 1.0], [1.0, 0.0], [1.0, 2.0]]).mean
    array([1., 1.])
    """
    from sklearn.covariance import ledoit_wolf

    vectors = as_numbers("labeled", labeled, "N D")
    texts = len(vectors)
    mean = vectors.mean(0)
    off = vectors - mean
    variance = float((off**2).mean())
    if texts < 2 or variance == 0:
        raise InputError(f"{texts} vectors that are all alike have no covariance: give other labeled texts")
    shrinkage = max(float(ledoit_wolf(off, assume_centered=True)[1]), _LEAST)
    covariance = (1 - shrinkage) * off.T @ off / texts + shrinkage * variance * np.eye(vectors.shape[1])
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    within = ((off @ root) ** 2).sum(1)
    # Without a text the mean moves, which stretches its distance, and the covariance loses what it gave (Sherman and
    # Morrison); the shrinkage stays.
    moved = (texts / (texts - 1)) ** 2
    left_out = moved * within / np.maximum(1 - (1 - shrinkage) / texts * within, _LEAST)
    return Gaussian(mean, root, left_out)


def mahalanobis(mean: ArrayLike, root: ArrayLike, features: ArrayLike) -> Floats:
    """The squared distance of vectors `(B, D)` to a mean, `(B,)`, see `Gaussian`.

    >>> mahalanobis([1, 1], [[2, 0], [0, 1]], [[1, 1], [2, 1], [1, 2]])
    array([0., 4., 1.])
    """
    center, new = as_numbers("mean", mean, "D"), as_numbers("features", features, "N D")
    if new.shape[1] != len(center):
        raise InputError(f"features have {new.shape[1]} dimensions, those of labeled texts {len(center)}")
    return (((new - center) @ as_numbers("root", root, "D D")) ** 2).sum(1)


def percentiles(known: ArrayLike, values: ArrayLike) -> Floats:
    """For each value how many of the known ones are below it, in percent.

    >>> percentiles([1, 2, 3, 4], [0, 2.5, 4, 9])
    array([  0.,  50.,  75., 100.])
    """
    ordered = np.sort(as_numbers("known", known, "N"))
    return 100 * np.searchsorted(ordered, as_numbers("values", values, "..."), "left") / len(ordered)
