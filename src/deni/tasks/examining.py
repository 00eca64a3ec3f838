"""Evaluation of a trained population on a test split: what several tasks share; see `Task.examine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BINS = 10  # of the reliability diagram
MOST_UNCERTAIN = 20  # texts that are listed


class Evaluation(Protocol):
    """Predictions for labeled texts, as `deni.finetune` has them: gold, members `(N, M, C)`, votes `(N, C)`."""

    @property
    def texts(self) -> Any: ...
    @property
    def gold(self) -> Sequence[Any]: ...
    @property
    def members(self) -> np.ndarray: ...
    @property
    def votes(self) -> np.ndarray: ...
    @property
    def metrics(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class UncertainText:
    """A text with high uncertainty.

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


def of_choices(
    classes: Sequence[str], gold: np.ndarray, chosen: np.ndarray, votes: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """The confusion matrix, and what each class and the probabilities of the vote `(N, C)` say."""
    import pandas as pd

    from deni.measures import calibration_scores, reliability

    count = len(classes)
    confusion = np.bincount(gold * count + chosen, minlength=count**2).reshape(count, count)
    share, confidence, right = reliability(votes, gold, BINS)
    percent = {"confidence": 100 * confidence, "accuracy": 100 * right, "share": 100 * share}
    bins = pd.DataFrame({**percent, "count": np.rint(share * len(gold)).astype(int)})
    return confusion, {
        "confusion": confusion,
        "per_label": per_label(classes, confusion.diagonal(), confusion.sum(1), confusion.sum(0)),
        "calibration": calibration_scores(votes, gold),
        "reliability": bins[bins["share"] > 0],
    }


def per_label(classes: Sequence[str], hits: np.ndarray, gold: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """How often each class is right, predicted, and both, as F1 in points."""
    import pandas as pd

    f1 = 100 * 2 * hits / np.maximum(gold + predicted, 1)
    return pd.DataFrame({"label": list(classes), "gold": gold, "predicted": predicted, "f1": f1})


def f1_interval(hits: Any, sizes: Any, generator: np.random.Generator) -> tuple[float, float]:
    """Of F1 = 2 hits / (gold + predicted) over all texts; texts of equal counts are alike."""
    from deni.measures import other_texts

    kinds, counts = np.unique(np.stack([hits, sizes], 1), axis=0, return_counts=True)
    return other_texts(f1_by_weight(*kinds.T), counts, generator=generator)


def f1_by_weight(hits: Any, sizes: Any) -> Any:
    """F1 = 2 hits / (gold + predicted) as a function of how often each text counts, `(R, N)`."""
    texts = np.stack([hits, sizes], 1)

    def score(weights: np.ndarray) -> np.ndarray:
        right, size = (weights @ texts).T
        return np.divide(2 * right, size, out=np.zeros(len(size)), where=size > 0)

    return score


def largest(values: np.ndarray) -> list[int]:
    """Where the largest values are, the first of equals first."""
    return np.argsort(-values, kind="stable")[:MOST_UNCERTAIN].tolist()


def parts_of(evaluation: Evaluation, at: int) -> tuple[str, ...]:
    """A text, or both of a pair."""
    text = evaluation.texts.texts[at]
    return (text,) if isinstance(text, str) else tuple(text)


def uncertain(
    evaluation: Evaluation, at: int, gold: str, predicted: str, total: np.ndarray, part: np.ndarray
) -> UncertainText:
    """A text with its label, its prediction, its uncertainty, and the members' part of that."""
    several = evaluation.members.shape[1] > 1
    return UncertainText(
        parts_of(evaluation, at), gold, predicted, float(total[at]), float(part[at]) if several else None
    )
