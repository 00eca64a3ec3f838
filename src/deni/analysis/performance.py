"""How well a trained population does on its test split: its score, its errors, and where its members are not sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr, expit
from seqeval.metrics.sequence_labeling import get_entities

from deni.analysis.predictions import BINS
from deni.finetune import Evaluation, scores_of
from deni.measures import (
    Calibration,
    Estimate,
    accuracy,
    calibration_scores,
    macro_f1,
    majority_score,
    mutual_information,
    other_texts,
    pairwise_disagreement,
    predictive_entropy,
    reliability,
)

# Of each task: the metric that the report leads with, and what it is called.
MAIN = {
    "single_label": ("macro_f1", "macro F1"),
    "multi_label": ("micro_f1", "micro F1"),
    "regression": ("pearson", "Pearson's r"),
    "token": ("entity_f1", "F1 of entities"),
}
FEW = 50  # test texts: with fewer a bootstrap's interval is too narrow
MOST_UNCERTAIN = 20  # texts that are listed
MOST_POINTS = 2000  # texts that are drawn one by one


@dataclass(frozen=True)
class UncertainText:
    """A text about which the members know little.

    Args:
        parts: the text; a pair has two.
        gold, predicted: the right label and the predicted one, as text.
        total: all uncertainty: predictive entropy in nats; the members' SD in regression.
        members: the part that comes from their disagreement (mutual information); None where there is none to tell.
    """

    parts: tuple[str, ...]
    gold: str
    predicted: str
    total: float
    members: float | None

    @property
    def right(self) -> bool:
        """Whether the prediction is right."""
        return self.gold == self.predicted


@dataclass(frozen=True)
class Performance:
    """Measures of a trained population on its test split.

    Args:
        task: see `deni.data.TASKS`.
        texts: how many.
        examples: what is labelled: texts, or words.
        score: the main metric with the interval of 95 % over other test texts.
        chance: metric -> what the vote gets, and what always the same answer would get.
        always: that answer.
        labels: class names.
        confusion: counts, gold x predicted `(C, C)`; None where a text has several labels or a number.
        per_label: `label`, `gold`, `predicted`, `f1`; empty in regression.
        calibration: of the vote, or None.
        reliability: `confidence`, `accuracy`, `share` in percent.
        disagreement: share of the examples on which two members differ; their mean SD in regression; None for one.
        parent_differs: share on which the vote differs from the parent, which got no noise; None without one.
        member_scores: the main metric of each member alone, `(M,)`.
        uncertain: the most uncertain texts.
        points: `gold` and `predicted` of regression.
    """

    task: str
    texts: int
    examples: str
    score: Estimate
    chance: Mapping[str, tuple[float, float]]
    always: str
    labels: Sequence[str]
    confusion: np.ndarray | None = None
    per_label: pd.DataFrame = field(default_factory=pd.DataFrame)
    calibration: Calibration | None = None
    reliability: pd.DataFrame = field(default_factory=pd.DataFrame)
    disagreement: float | None = None
    parent_differs: float | None = None
    member_scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    uncertain: Sequence[UncertainText] = ()
    points: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def name(self) -> str:
        """What the main metric is called."""
        return MAIN[self.task][1]

    @property
    def confused(self) -> list[tuple[str, str, int]]:
        """Gold, predicted and how often, of all errors, the most frequent first."""
        if self.confusion is None:
            return []
        errors = self.confusion * (1 - np.eye(len(self.confusion), dtype=int))
        order = np.argsort(-errors, axis=None, kind="stable")[: np.count_nonzero(errors)]
        places = zip(*np.unravel_index(order, errors.shape), strict=True)
        return [(self.labels[gold], self.labels[predicted], int(errors[gold, predicted])) for gold, predicted in places]


def measure_performance(
    task: str, labels: Sequence[str], evaluation: Evaluation, parent: bool, generator: np.random.Generator
) -> tuple[Performance | None, dict[str, str]]:
    """Measure the predictions of the test split.

    Args:
        parent: whether the first member is the parent of the others.
        generator: draws the texts again, for the interval.

    Returns:
        the measures, and why some are missing: part -> sentence.
    """
    if not (np.isfinite(evaluation.members).all() and not np.isnan(evaluation.votes).any()):
        return None, {"test": "A member's outputs are no numbers (its training failed), so its test part says nothing."}
    of = {"regression": _numbers, "multi_label": _several, "token": _words, "single_label": _classes}[task]
    found, missing = of(labels, evaluation, generator)
    members = evaluation.members.shape[1]
    if members == 1:
        missing["members"] = "One model predicts, so there are no members that could disagree."
    else:
        name = MAIN[task][0]
        each = [scores_of(task, evaluation.gold, evaluation.members[:, at], labels)[name] for at in range(members)]
        found["member_scores"] = np.array(each)
        if task == "regression":
            found["disagreement"] = float(evaluation.members[..., 0].std(1).mean())
        else:
            chosen = evaluation.members > 0 if task == "multi_label" else evaluation.members.argmax(-1)
            chosen = chosen.swapaxes(0, 1).reshape(members, -1).astype(int)
            vote = evaluation.votes > 0 if task == "multi_label" else evaluation.votes.argmax(-1)
            found["disagreement"] = pairwise_disagreement(chosen)
            found["parent_differs"] = float(np.mean(chosen[0] != vote.reshape(-1))) if parent else None
    counts = {"single_label": "texts", "multi_label": "labels of texts", "regression": "texts", "token": "words"}
    return Performance(task=task, texts=len(evaluation.texts), examples=counts[task], labels=labels, **found), missing


# ---- of each task ----------------------------------------------------------------------------------------------------

_Found = tuple[dict[str, Any], dict[str, str]]


def _classes(labels: Sequence[str], evaluation: Evaluation, generator: np.random.Generator) -> _Found:
    gold, predicted = np.asarray(evaluation.gold), evaluation.votes.argmax(-1)
    confusion, own = _of_choices(labels, gold, predicted, evaluation.votes)
    right, chosen = np.nonzero(confusion)

    def score(weights: np.ndarray) -> np.ndarray:
        return macro_f1(chosen[None], right, weights)[:, 0]

    ends = other_texts(score, confusion[right, chosen], generator=generator)
    most = np.bincount(gold).argmax()
    total = predictive_entropy(evaluation.members)
    part = mutual_information(evaluation.members)
    return {
        **own,
        "score": Estimate(evaluation.metrics["macro_f1"], *ends),
        "chance": {
            "accuracy": (evaluation.metrics["accuracy"], majority_score(gold, accuracy)),
            "macro F1": (evaluation.metrics["macro_f1"], majority_score(gold)),
        },
        "always": labels[int(most)],
        "uncertain": [
            _uncertain(evaluation, at, labels[gold[at]], labels[predicted[at]], total, part) for at in _largest(total)
        ],
    }, {}


def _words(labels: Sequence[str], evaluation: Evaluation, generator: np.random.Generator) -> _Found:
    """A word is an example; an interval is over texts, in which words belong together."""
    gold, predicted = np.concatenate(evaluation.gold), evaluation.votes.argmax(-1)
    _, own = _of_choices(labels, gold, predicted, evaluation.votes)
    lengths = [len(each) for each in evaluation.gold]
    ends = np.cumsum(lengths)[:-1]
    names = np.array(labels, dtype=object)
    hits, sizes = [], []
    for right, chosen in zip(np.split(gold, ends), np.split(predicted, ends), strict=True):
        one, other = (set(get_entities(names[each].tolist())) for each in (right, chosen))
        hits.append(len(one & other))
        sizes.append(len(one) + len(other))
    total, part = predictive_entropy(evaluation.members), mutual_information(evaluation.members)
    words = [
        int(start + own_total.argmax()) for start, own_total in zip([0, *ends], np.split(total, ends), strict=True)
    ]
    found = []
    for at in _largest(total[words]):
        word = words[at]
        shown = evaluation.texts.texts[at][word - ([0, *ends])[at]]
        right, chosen = labels[gold[word]], labels[predicted[word]]
        found.append(
            UncertainText(
                (" ".join(evaluation.texts.texts[at]), f"word: {shown}"),
                right,
                chosen,
                float(total[word]),
                float(part[word]) if evaluation.members.shape[1] > 1 else None,
            )
        )
    most = np.bincount(gold).argmax()
    return {
        **own,
        "score": Estimate(evaluation.metrics["entity_f1"], *_f1_interval(hits, sizes, generator)),
        "chance": {"accuracy of words": (evaluation.metrics["accuracy"], float(np.mean(gold == most)))},
        "always": labels[int(most)],
        "uncertain": found,
    }, {}


def _several(labels: Sequence[str], evaluation: Evaluation, generator: np.random.Generator) -> _Found:
    gold, predicted = np.asarray(evaluation.gold).astype(bool), evaluation.votes > 0  # (N, C)
    hits, sizes = (gold & predicted).sum(1), gold.sum(1) + predicted.sum(1)
    probabilities = expit(evaluation.members.astype(np.float64))  # (N, M, C)
    total = _binary_entropy(probabilities.mean(1)).sum(-1)
    part = np.maximum(total - _binary_entropy(probabilities).sum(-1).mean(1), 0)

    def listed(chosen: np.ndarray) -> str:
        return "; ".join(label for label, there in zip(labels, chosen, strict=True) if there) or "none"

    every = 2 * gold.sum() / (gold.sum() + gold.size)
    return {
        "score": Estimate(evaluation.metrics["micro_f1"], *_f1_interval(hits, sizes, generator)),
        "chance": {"micro F1": (evaluation.metrics["micro_f1"], float(every))},
        "always": "all labels",
        "per_label": _per_label(labels, (gold & predicted).sum(0), gold.sum(0), predicted.sum(0)),
        "uncertain": [
            _uncertain(evaluation, at, listed(gold[at]), listed(predicted[at]), total, part) for at in _largest(total)
        ],
    }, {
        "confusion": "A text has several labels, so there is no confusion matrix; the table has each label.",
        "calibration": "A text has several labels, so there is no one confidence that could be compared with accuracy.",
    }


def _numbers(labels: Sequence[str], evaluation: Evaluation, generator: np.random.Generator) -> _Found:
    gold, predicted = np.asarray(evaluation.gold, dtype=np.float64), evaluation.votes[:, 0].astype(np.float64)
    own = (
        gold - gold.mean(),
        predicted - predicted.mean(),
    )  # around their means, so that the sums of squares stay exact
    moments = np.stack([*own, own[0] ** 2, own[1] ** 2, own[0] * own[1], np.ones(len(gold))], 1)  # (N, 6)

    def score(weights: np.ndarray) -> np.ndarray:
        x, y, xx, yy, xy, n = (weights @ moments).T
        below = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0))
        return np.divide(xy - x * y / n, below, out=np.zeros(len(n)), where=below > 1e-12)

    ends = other_texts(score, np.ones(len(gold)), generator=generator)
    missing = {
        "confusion": "The labels are numbers, so there is no confusion matrix; the figure has every text.",
        "calibration": "The labels are numbers, so there are no probabilities that could be calibrated.",
    }
    spread = evaluation.members[..., 0].astype(np.float64).std(1)
    uncertain = []
    if evaluation.members.shape[1] > 1:
        uncertain = [
            UncertainText(_parts(evaluation, at), f"{gold[at]:.4g}", f"{predicted[at]:.4g}", float(spread[at]), None)
            for at in _largest(spread)
        ]
    else:
        missing["uncertain"] = "One model predicts numbers, which do not say how sure it is."
    drawn = generator.permutation(len(gold))[:MOST_POINTS]
    return {
        "score": Estimate(evaluation.metrics["pearson"], *ends),
        "chance": {"RMSE": (evaluation.metrics["rmse"], float(gold.std()))},
        "always": "the mean",
        "uncertain": uncertain,
        "points": pd.DataFrame({"gold": gold[drawn], "predicted": predicted[drawn]}),
    }, missing


# ---- parts -----------------------------------------------------------------------------------------------------------


def _of_choices(
    labels: Sequence[str], gold: np.ndarray, predicted: np.ndarray, votes: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """The confusion matrix, and what each class and the probabilities of the vote `(N, C)` say."""
    classes = len(labels)
    confusion = np.bincount(gold * classes + predicted, minlength=classes**2).reshape(classes, classes)
    share, confidence, right = reliability(votes, gold, BINS)
    bins = pd.DataFrame({"confidence": 100 * confidence, "accuracy": 100 * right, "share": 100 * share})
    return confusion, {
        "confusion": confusion,
        "per_label": _per_label(labels, confusion.diagonal(), confusion.sum(1), confusion.sum(0)),
        "calibration": calibration_scores(votes, gold),
        "reliability": bins[bins["share"] > 0],
    }


def _per_label(labels: Sequence[str], hits: np.ndarray, gold: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    f1 = 100 * 2 * hits / np.maximum(gold + predicted, 1)
    return pd.DataFrame({"label": list(labels), "gold": gold, "predicted": predicted, "f1": f1})


def _f1_interval(hits: Any, sizes: Any, generator: np.random.Generator) -> tuple[float, float]:
    """Of F1 = 2 hits / (gold + predicted) over all texts; texts of equal counts are alike."""
    kinds, counts = np.unique(np.stack([hits, sizes], 1), axis=0, return_counts=True)

    def score(weights: np.ndarray) -> np.ndarray:
        right, size = (weights @ kinds).T
        return np.divide(2 * right, size, out=np.zeros(len(size)), where=size > 0)

    return other_texts(score, counts, generator=generator)


def _binary_entropy(probabilities: np.ndarray) -> np.ndarray:
    return entr(probabilities) + entr(1 - probabilities)


def _largest(values: np.ndarray) -> list[int]:
    return np.argsort(-values, kind="stable")[:MOST_UNCERTAIN].tolist()


def _parts(evaluation: Evaluation, at: int) -> tuple[str, ...]:
    text = evaluation.texts.texts[at]
    return (text,) if isinstance(text, str) else tuple(text)


def _uncertain(
    evaluation: Evaluation, at: int, gold: str, predicted: str, total: np.ndarray, part: np.ndarray
) -> UncertainText:
    several = evaluation.members.shape[1] > 1
    return UncertainText(
        _parts(evaluation, at), gold, predicted, float(total[at]), float(part[at]) if several else None
    )
