"""Prediction sets of an artifact: conformal, calibrated on labeled texts that its models have not learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deni.artifact.classifier import Classifier
from deni.artifact.folder import FOLDS
from deni.artifact.loading import load_folds
from deni.artifact.out_of_fold import VOTE, OutOfFold
from deni.errors import ArtifactError, InputError
from deni.measures import (
    intervals,
    mean_p_values,
    prediction_sets,
    probability_scores,
    texts_needed,
    too_few,
)
from deni.models.reading import AGAIN
from deni.tasks import Task, find_task
from deni.tasks.voting import vote

if TYPE_CHECKING:
    from deni.data import Text


@dataclass(frozen=True, eq=False)
class Conformal:
    """A function of texts: for each the set of labels, or the interval of numbers, that holds the truth.

    Args:
        level: how often it is asked to, such as 0.9.
        scores: K arrays: how ill the true labels of texts fit that a model has not learned, see `deni.measures`.
        votes: what the K models predict for texts, `(K, N, C)`.
        labels: class names in the order of the outputs.
        texts: how many labeled texts it is calibrated on.
        of_numbers: whether it gives intervals.

    Example: `deni.load("model/").conformal(0.9)(["where is my parcel"])` is `[["delivery"]]`.
    """

    level: float
    scores: Sequence[np.ndarray]
    votes: Callable[[Sequence[Text]], np.ndarray]
    labels: Sequence[str]
    texts: int
    of_numbers: bool = False

    @property
    def models(self) -> int:
        """K: 1, or that of the folds."""
        return len(self.scores)

    @property
    def guarantee(self) -> float:
        """The probability with which a set holds the truth, at least: the level, with folds 1 - 2 (1 - level)."""
        return self.level if self.models == 1 else max(0.0, 1 - 2 * (1 - self.level))

    def __call__(self, texts: Sequence[Text]) -> list[Any]:
        """Lists of labels, the likeliest first; of numbers `(low, high)`."""
        if not len(texts):
            return []
        votes = self.votes(texts)  # (K, N, C)
        if self.of_numbers:
            low, high = intervals(self.scores, votes[..., 0], self.level)
            return list(zip(low.tolist(), high.tolist(), strict=True))
        values = mean_p_values(self.scores, probability_scores(votes))
        chosen, mean = prediction_sets(values, self.level), np.exp(votes.astype(float)).mean(0)
        order = np.argsort(-mean, axis=1, kind="stable")
        return [[self.labels[at] for at in row if some[at]] for row, some in zip(order, chosen, strict=True)]

    def sentence(self) -> str:
        """What its sets promise."""
        what = "an interval holds the number" if self.of_numbers else "a set holds the label"
        held = f"{what} of a new text with a probability of at least {self.guarantee:g}"
        if self.models == 1:
            return f"{held} (split conformal, {self.texts} labeled texts)"
        return (
            f"{held} = 1 - 2 x {1 - self.level:g} (cross-conformal, {self.models} folds of {self.texts} labeled texts)"
        )


def why_no_sets(task: Task, outputs: int) -> str:
    """Why a task has no prediction sets; empty where it has.

    Args:
        outputs: C.
    """
    if task.of_words:
        return "words of one text depend on each other"
    if not task.one_class and task.chooses:
        return "a text has any number of labels, each with its own probability"
    if not task.chooses and outputs > 1:
        return "a text has several numbers, and an interval is of one"
    return ""


def make_conformal(classifier: Classifier, level: float, labeled: OutOfFold | None = None) -> Conformal:
    """Calibrate prediction sets.

    Args:
        level: how often a set should hold the truth, between 0 and 1.
        labeled: predictions of the classifier for labeled texts that it has not learned (split conformal); None for
            its out-of-fold predictions and the models of its folds (cross-conformal).

    Raises:
        InputError: a task without sets, no texts to calibrate on, or too few: says how many would do.
    """
    task = find_task(classifier.task)
    where = "the model" if classifier.source is None else str(classifier.source)
    if why := why_no_sets(task, len(classifier.labels)):
        raise InputError(f"{where}: a model of {classifier.task} has no prediction sets: {why}")
    if not 0 < level < 1:
        raise InputError(f"the level of prediction sets must be between 0 and 1, such as 0.9, not {level:g}")
    found = labeled
    if found is not None:
        parts = [(0, np.arange(found.folds.shape[1]))]
        return _calibrated(classifier, task, level, found, parts, lambda texts: _votes(classifier, texts, 1))
    folder, found = classifier.source, classifier.out_of_fold
    population = None if folder is None or found is None else load_folds(folder, classifier.info, *_place(classifier))
    if folder is None or found is None or population is None:
        raise InputError(
            f"{where} has nothing that prediction sets could be calibrated on: give labeled texts that it has not "
            "learned with --calibration FILE, or train it with --cv 5 --keep-folds"
        )
    models = Classifier(population, classifier.tokenizer, classifier.labels, classifier.info, classifier.progress)
    parts = [
        (at, np.flatnonzero(division == fold))
        for at, division in enumerate(found.folds)
        for fold in range(int(division.max()) + 1)
    ]
    if population.size % len(parts):
        raise ArtifactError(f"{folder / FOLDS} has {population.size} members, which are no {len(parts)} folds: {AGAIN}")
    each = population.size // len(parts)
    if population.size > each:  # fold by fold, as they were measured; all together would take their memory at once
        population.module.choose(population.engine_name, each)
    return _calibrated(classifier, task, level, found, parts, lambda texts: _votes(models, texts, len(parts)))


def _calibrated(
    classifier: Classifier,
    task: Task,
    level: float,
    found: OutOfFold,
    parts: Sequence[tuple[int, np.ndarray]],
    votes: Callable[[Sequence[Text]], np.ndarray],
) -> Conformal:
    """Prediction sets; raises InputError where there are too few texts.

    Args:
        parts: of each model the division and the rows of the texts that it has not learned.
    """
    sizes = [len(rows) for _, rows in parts]
    if too_few(sizes, level):
        folds = len(parts) // len(found.folds)
        needed, in_folds = texts_needed(level, folds), f" in {folds} folds" if len(parts) > 1 else ""
        raise InputError(
            f"prediction sets at {level:g} need at least {needed} labeled texts{in_folds}, and there are "
            f"{found.folds.shape[1]}: label more, or ask for a lower level"
        )
    outputs, gold = found.outputs[VOTE], np.asarray(found.gold)
    scores = [_scores_of_truth(outputs[division, rows], gold[rows], task) for division, rows in parts]
    return Conformal(level, scores, votes, classifier.labels, found.folds.shape[1], not task.chooses)


def _scores_of_truth(outputs: np.ndarray, gold: np.ndarray, task: Task) -> np.ndarray:
    """How ill the true labels, or numbers, fit `(n, C)` outputs."""
    if not task.chooses:
        return np.abs(outputs.astype(float) - gold.reshape(outputs.shape))[:, 0]
    return probability_scores(outputs)[np.arange(len(gold)), gold]


def _votes(classifier: Classifier, texts: Sequence[Text], models: int) -> np.ndarray:
    """What each of the models predicts, `(K, N, C)`: uncalibrated, as out-of-fold predictions are.

    Args:
        models: K; each has as many of the classifier's members.
    """
    members = torch.from_numpy(classifier.members(texts))  # (N, K*M, C)
    return np.stack([vote(each, classifier.combine, classifier.task).numpy() for each in members.chunk(models, 1)])


def _place(classifier: Classifier) -> tuple[torch.device, torch.dtype | None]:
    """Device and type of its members; None for the type that they were trained in."""
    value = next(iter(classifier.population.values.values()))
    return value.device, None if value.dtype == torch.float32 else value.dtype
