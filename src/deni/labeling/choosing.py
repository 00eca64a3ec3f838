"""Which texts to label next: uncertain ones that differ from each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from deni.errors import InputError
from deni.tasks import Task

CANDIDATES = 10  # most uncertain texts for each one that is chosen


class Chosen(NamedTuple):
    """Texts in the order in which to label them: `rows`, and how many candidates each of them `stands_for`; `(n,)`."""

    rows: np.ndarray
    stands_for: np.ndarray


def uncertainty(task: Task, members: np.ndarray, votes: np.ndarray, lengths: Sequence[int] = ()) -> np.ndarray:
    """How little a model knows about each text, `(N,)`.

    Of classes: 1 minus the difference between the two highest probabilities; of words its mean over a text; of several
    labels the mean of 1 - |2p - 1|; of numbers the standard deviation of the members.

    Args:
        members: `(N, M, C)`, of words of all texts `(W, M, C)`.
        votes: `(N, C)`, or `(W, C)`.
        lengths: words of each text.

    Raises:
        InputError: numbers of one member, which has no standard deviation.

    >>> from deni.tasks import find_task
    >>> votes = np.log([[0.5, 0.4, 0.1], [0.1, 0.9, 0.0001]])
    >>> uncertainty(find_task("single_label"), votes[:, None], votes).round(3)
    array([0.9, 0.2])
    """
    if not task.chooses:
        if members.shape[1] < 2:
            raise InputError(
                "one model of numbers does not tell how sure it is: train members, such as with --strategy ensemble"
            )
        return members.std(1, ddof=1).mean(-1)
    if not task.distribution:
        return (1 - np.abs(2 * expit(votes) - 1)).mean(-1)
    probabilities = np.sort(np.exp(votes), -1)
    each = 1 - (probabilities[:, -1] - probabilities[:, -2])
    if not task.of_words:
        return each
    owners = np.repeat(np.arange(len(lengths)), lengths)
    return np.bincount(owners, each, len(lengths)) / np.maximum(lengths, 1)


def choose(uncertain: np.ndarray, features: np.ndarray | None, n: int) -> Chosen:
    """The texts nearest to the centers of n clusters of the most uncertain ones, the most uncertain first.

    The `CANDIDATES` n most uncertain texts are clustered by k-means on features of length 1, in which each counts by
    its uncertainty (Zhdanov 2019, arXiv 1901.05954). Nothing is random: the same texts are chosen again.

    Args:
        uncertain: of each text, at least 0, `(N,)`.
        features: `(N, D)`; None where there are none: then the most uncertain texts are chosen.
        n: how many; all where there are no more.
    """
    from sklearn.cluster import KMeans

    order = np.argsort(-uncertain, kind="stable")
    if features is None or n >= len(order):
        return Chosen(order[:n], np.ones(len(order[:n]), dtype=int))
    candidates = order[: CANDIDATES * n]
    norms = np.linalg.norm(features[candidates], axis=1, keepdims=True)
    directions = features[candidates] / np.maximum(norms, np.finfo(float).tiny)
    weights = uncertain[candidates] if uncertain[candidates].any() else None
    clusters = KMeans(n, n_init=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different texts than clusters: the rest is filled up below
        distances = clusters.fit(directions, sample_weight=weights).transform(directions)  # (candidates, n)
    sizes = np.bincount(clusters.labels_, minlength=n)
    taken = np.zeros(len(candidates), dtype=bool)
    chosen = np.empty(n, dtype=int)
    for cluster in range(n):
        chosen[cluster] = np.where(taken, np.inf, distances[:, cluster]).argmin()
        taken[chosen[cluster]] = True
    ranks = np.argsort(chosen)  # candidates are in the order of their uncertainty
    return Chosen(candidates[chosen[ranks]], np.maximum(sizes[ranks], 1))
