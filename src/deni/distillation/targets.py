"""What a student learns to predict: probabilities of a teacher's vote, out-of-fold ones mixed with given labels.

Shapes: N texts (of words W: all words of all texts), M members, C outputs, S divisions into folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from deni.artifact import OutOfFold, digests_of
from deni.artifact.out_of_fold import VOTE
from deni.data import Texts
from deni.tasks import Task


def soften(votes: np.ndarray, task: Task, temperature: float = 1.0) -> np.ndarray:
    """Outputs of a vote as targets `(..., C)`: probabilities of classes, or of each label; numbers as they are.

    Log probabilities, or log odds, are divided by the temperature. The student's are not (Hinton et al. 2015 divide
    both): it learns the probabilities that the scaled vote has, and then predicts them.

    Args:
        votes: uncalibrated, as `deni.artifact.Classifier.combined` gives them.
        temperature: above 0; above 1 flatter, below 1 more certain.

    >>> from deni.tasks import find_task
    >>> soften(np.log([[0.9, 0.1]]), find_task("single_label"), temperature=2.0)
    array([[0.75, 0.25]])
    """
    values = np.asarray(votes, dtype=np.float64)
    if not task.chooses:
        return values
    return softmax(values / temperature, -1) if task.distribution else expit(values / temperature)


def agreement(members: np.ndarray, votes: np.ndarray, task: Task) -> np.ndarray:
    """How far members agree with their vote, from 0 to 1, `(N,)`; of words `(W,)`.

    Of classes the share of the members that choose what the vote chooses (one minus the variation ratio); of several
    labels the mean of that over the labels, each there or not. Of numbers 1 / (1 + s^2 / S^2): s^2 is the variance of
    the members around their mean, S^2 that of the votes over these texts.

    Args:
        members: `(N, M, C)`.
        votes: `(N, C)`.

    >>> from deni.tasks import find_task
    >>> two_to_one = np.log([[[0.6, 0.4], [0.9, 0.1], [0.4, 0.6]]])
    >>> agreement(two_to_one, two_to_one.mean(1), find_task("single_label")).round(3)
    array([0.667])
    """
    if not task.chooses:
        within = np.asarray(members, dtype=np.float64).var(1).mean(-1)
        between = float(np.asarray(votes, dtype=np.float64).var(0).mean())
        total = within + between
        return np.divide(between, total, out=np.ones_like(total), where=total > 0)
    same = task.choose(members) == np.expand_dims(task.choose(votes), 1)
    return same.reshape(len(same), -1).mean(1)


def out_of_fold(found: OutOfFold, texts: Texts, task: Task, temperature: float = 1.0) -> list[np.ndarray | None]:
    """The out-of-fold targets of each text, `(C,)`, of words `(W, C)`; None for a text that no fold left out.

    Of several divisions into folds the mean.

    Args:
        texts: found by their digests.
        temperature: see `soften`.
    """
    targets = soften(found.outputs[VOTE], task, temperature).mean(0)  # (N, C)
    rows: dict[str, Any] = {}
    for at, digest in enumerate(found.digests):
        rows.setdefault(digest, at if found.texts is None else np.flatnonzero(found.texts == at))
    digests = digests_of(texts.texts)
    return [targets[rows[digest]] if digest in rows else None for digest in digests]


def as_targets(gold: Any, task: Task, classes: int) -> np.ndarray:
    """The gold label of a text as a target: 1 for its class, or for each of its labels, 0 for others; its number.

    Args:
        gold: as `deni.models.tokenizing.encode` gives it.

    Returns:
        `(C,)`; of words `(W, C)`.
    """
    return np.eye(classes)[np.asarray(gold)] if task.distribution else np.asarray(gold, dtype=np.float64).reshape(-1)


def mix(gold: np.ndarray, predicted: np.ndarray | None, share: float) -> np.ndarray:
    """Gold targets, as this share, and out-of-fold ones as the rest; gold alone where there are no others.

    >>> mix(np.array([0.0, 1.0]), np.array([0.4, 0.6]), share=0.5)
    array([0.2, 0.8])
    """
    return gold if predicted is None else share * gold + (1 - share) * predicted


def by_text(values: np.ndarray, lengths: Sequence[int] | None) -> list[np.ndarray]:
    """Rows of words `(W, ...)` as a part for each text; of texts a row each.

    Args:
        lengths: how many words each text has; None where a row is a text.
    """
    return list(values) if lengths is None else np.split(values, np.cumsum(lengths)[:-1])


def likely_label(target: np.ndarray, task: Task, labels: Sequence[str]) -> Any:
    """The label that a target `(C,)`, of words `(W, C)`, makes the most probable, as `Task.parse` gives labels.

    >>> from deni.tasks import find_task
    >>> likely_label(np.array([0.2, 0.8]), find_task("multi_label"), ["a", "b"])
    ('b',)
    """
    if not task.chooses:
        return float(target[0])
    if not task.distribution:
        return tuple(label for label, probability in zip(labels, target, strict=True) if probability > 0.5)
    best = target.argmax(-1)
    return tuple(labels[at] for at in best) if task.of_words else labels[int(best)]
