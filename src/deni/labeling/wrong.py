"""Which labels are likely wrong: confident learning (Northcutt et al. 2021), as `cleanlab` has it."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logsumexp

from deni.tasks import Task

TIMES = 5  # another label is at least so many times as likely: what a weak model doubts is far more than is wrong
FEWER = 0.05  # of the median quality: a number of less is listed, as in cleanlab's Datalab


@dataclass(frozen=True)
class WrongLabel:
    """A label that is likely wrong.

    Args:
        text: the text, counted from 0.
        word: its word, counted from 0; None where the label is that of the whole text.
        given: the label as it is, as a file writes it.
        suggested: the label that is likely right; of numbers the prediction.
        confidence: the probability of the suggested label, from 0 to 1; None for numbers.
        quality: cleanlab's quality of the given label, from 0, likely wrong, to 1; of several labels the lowest.
    """

    text: int
    word: int | None
    given: str
    suggested: str
    confidence: float | None
    quality: float


def combined(outputs: np.ndarray, task: Task) -> np.ndarray:
    """Predictions under several divisions into folds as one: `(S, N, C)` becomes `(N, C)`.

    Args:
        outputs: log probabilities, log odds of several labels, or numbers.
    """
    if task.distribution:
        return logsumexp(outputs, 0) - np.log(len(outputs))
    if not task.chooses:
        return outputs.mean(0)
    probabilities = expit(outputs).mean(0)
    return np.log(probabilities) - np.log1p(-probabilities)


def find_wrong_labels(task: Task, gold: Sequence[Any], outputs: np.ndarray, labels: Sequence[str]) -> list[WrongLabel]:
    """Labels that are likely wrong, the likeliest first.

    Classes, labels and words are those that confident learning lists, as far as another one is `TIMES` as likely;
    numbers those whose quality is far below the median.

    Args:
        gold: the given labels, as `Task.encode` gives them.
        outputs: of a model that was trained without the text, `(N, C)`, of words all words of all texts `(W, C)`: log
            probabilities, log odds of several labels, or numbers.
        labels: names of the C outputs.

    >>> from deni.tasks import find_task
    >>> outputs = np.log([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.05, 0.95], [0.7, 0.3]])
    >>> find_wrong_labels(find_task("single_label"), [0, 0, 1, 1, 0, 0], outputs, ["no", "yes"])[0].suggested
    'yes'
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cleanlab's, of a class with few texts
        if not task.chooses:
            found = _numbers(np.asarray(gold, dtype=float), np.asarray(outputs, dtype=float))
        elif not task.distribution:
            found = _several(task, np.asarray(gold) > 0.5, expit(np.asarray(outputs, dtype=float)), labels)
        elif task.of_words:
            found = _words(gold, _normalized(outputs), labels)
        else:
            found = _classes(np.asarray(gold), _normalized(outputs), labels)
    return sorted(found, key=lambda each: (each.quality, each.text, each.word or 0))


def _normalized(outputs: np.ndarray) -> np.ndarray:
    """Probabilities that sum to 1 in float64, as cleanlab checks."""
    probabilities = np.exp(np.asarray(outputs, dtype=float))
    return probabilities / probabilities.sum(-1, keepdims=True)


def _classes(gold: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> list[WrongLabel]:
    from cleanlab.filter import find_label_issues

    quality = label_quality(gold, probabilities)
    wrong = find_label_issues(gold, probabilities, n_jobs=1) & (TIMES * quality <= probabilities.max(1))
    return [
        WrongLabel(int(at), None, labels[gold[at]], *_best(probabilities[at], labels), float(quality[at]))
        for at in np.flatnonzero(wrong)
    ]


def _words(gold: Sequence[Sequence[int]], probabilities: np.ndarray, labels: Sequence[str]) -> list[WrongLabel]:
    from cleanlab.token_classification.filter import find_label_issues

    starts = np.cumsum([0, *map(len, gold)])
    each = [probabilities[start:stop] for start, stop in itertools.pairwise(starts)]
    flat = np.array([tag for tags in gold for tag in tags])
    quality = label_quality(flat, probabilities)
    found = []
    for text, word in find_label_issues([list(tags) for tags in gold], each, n_jobs=1):
        at = starts[text] + word
        if TIMES * quality[at] > probabilities[at].max():
            continue
        best = _best(probabilities[at], labels)
        found.append(WrongLabel(int(text), int(word), labels[flat[at]], *best, float(quality[at])))
    return found


def _several(task: Task, gold: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> list[WrongLabel]:
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class

    listed = [np.flatnonzero(row).tolist() for row in gold]
    masks = np.asarray(find_multilabel_issues_per_class(listed, probabilities, n_jobs=1))  # (N, C)
    quality = np.where(gold, probabilities, 1 - probabilities)  # self-confidence of each label that is there, or not
    masks &= TIMES * quality <= 1 - quality
    found = []
    for at in np.flatnonzero(masks.any(1)):
        given, suggested = (
            task.written([label for label, there in zip(labels, row, strict=True) if there])
            for row in (gold[at], gold[at] ^ masks[at])
        )
        least = float(quality[at, masks[at]].min())
        found.append(WrongLabel(int(at), None, given, suggested, 1 - least, least))
    return found


def _numbers(gold: np.ndarray, outputs: np.ndarray) -> list[WrongLabel]:
    from cleanlab.regression.rank import get_label_quality_scores

    predicted = outputs.reshape(len(gold), -1)[:, 0]
    quality = get_label_quality_scores(gold, predicted)
    wrong = np.flatnonzero(quality < FEWER * np.median(quality))
    return [
        WrongLabel(int(at), None, f"{gold[at]:.6g}", f"{predicted[at]:.4g}", None, float(quality[at])) for at in wrong
    ]


def label_quality(gold: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How likely each label is right, `(N,)`, from 0 to 1: its probability (self-confidence).

    Args:
        gold: class numbers `(N,)`.
        probabilities: `(N, C)`.
    """
    from cleanlab.rank import get_label_quality_scores

    return get_label_quality_scores(gold, probabilities, method="self_confidence")


def _best(probabilities: np.ndarray, labels: Sequence[str]) -> tuple[str, float]:
    best = int(probabilities.argmax())
    return labels[best], float(probabilities[best])
