"""None, one or several labels a text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.errors import InputError, short
from deni.tasks import examining, losses, metrics, probing, voting
from deni.tasks.base import ByWeight, Task, register, unknown_label
from deni.tasks.column import Column, is_list, is_null
from deni.tasks.remarks import Remark, severity_of, share_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

_AS = 'write "a;b", or a list such as ["a", "b"]'


@register
class MultiLabel(Task):
    """Each label is there or not: sigmoids, binary cross-entropy, F1 over all labels."""

    name = "multi_label"
    help = "several (a;b)"
    problem_type = "multi_label_classification"
    metrics = ("micro_f1", "macro_f1")
    headline = "micro_f1"
    compared = best = "macro_f1"
    prediction_types: ClassVar = {"labels": list[str], "probabilities": dict[str, float]}
    model_is = "A classifier that gives a text none, one or several labels,"
    outputs_are = "Labels"
    examples = "labels of texts"

    # ---- the column ------------------------------------------------------------------------------------------------

    def parse(self, column: Column) -> list[tuple[str, ...]]:
        """Lists as they are, strings split at semicolons; sorted, each once."""
        several = []
        for at, value in enumerate(column.lists() or column.values):
            if is_list(value):
                parts = [_one_label(each, column, at) for each in value]
            elif isinstance(value, dict):
                raise InputError(f"{column.where(at)}: {short(value)} where labels were expected; {_AS}")
            else:
                parts = ("" if is_null(value) else column.name_of(value)).split(";")
            several.append(tuple(sorted({part.strip() for part in parts} - {""})))
        return several

    def classes_in(self, label: Any) -> tuple[str, ...]:
        return tuple(label)

    def class_names(self, labels: Sequence[Any], order: Sequence[str] = ()) -> list[str]:
        return sorted({label for label_set in labels for label in label_set})

    def written(self, label: Any) -> str:
        return ";".join(label)

    def encode(self, labels: Sequence[Any], classes: Sequence[str], source: str) -> list[list[float]]:
        """0.0 or 1.0 for each label."""
        for row, label_set in enumerate(labels, start=1):
            for label in label_set:
                if label not in classes:
                    raise unknown_label(source, row, label, classes)
        return [[float(label in label_set) for label in classes] for label_set in labels]

    # ---- for `deni inspect` ------------------------------------------------------------------------------------------

    def unlearnable(self, labels: Sequence[Any], flag: str) -> Remark | None:
        if any(labels):
            return None
        return Remark("no_labels", "error", f"no text has a label; name their column with {flag}", len(labels))

    def remarks(self, labels: Sequence[Any], flag: str) -> list[Remark]:
        bare = sum(not label_set for label_set in labels)
        if not bare or not any(labels):
            return []
        message = f"{share_of(bare, len(labels))} without a label; right only where no label fits"
        return [Remark("without_label", severity_of(bare, len(labels), 0.5, 10), message, bare)]

    def figures(self, labels: Sequence[Any]) -> dict[str, Any]:
        return {"labels_per_text": dict(sorted(Counter(map(len, labels)).items()))}

    # ---- training and predicting -------------------------------------------------------------------------------------

    def member_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        return losses.binary_cross_entropy(logits, labels, members, soft)

    def difference(
        self,
        first: Tensor,
        other: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        """The symmetric Kullback-Leibler divergence of whether a text has a label, mean over the labels."""
        return losses.of_log_odds(self.outputs(first), self.outputs(other), members, soft)

    def fit_output_layer(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        classes: int,
        c: float,
        intercept: bool,
        weight: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        return probing.on_labels(features, labels, classes, c, intercept, rows)

    def outputs(self, logits: Tensor) -> Tensor:
        """Log odds."""
        return voting.at_least_float32(logits)

    def vote(self, outputs: Tensor, combine: voting.Combine = "soft") -> Tensor:
        return voting.on_labels(outputs, combine)

    def as_logits(self, votes: Tensor) -> Tensor:
        # Of infinite log odds, on which all members agree, the loss would be NaN.
        return votes.nan_to_num(nan=math.nan)

    def choose(self, outputs: Any) -> Any:
        return outputs > 0

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def scores(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str] = ()) -> dict[str, float]:
        return metrics.of_labels(np.asarray(gold).astype(int), (np.asarray(votes) > 0).astype(int))

    def headline_by_weight(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> ByWeight:
        right, chosen = np.asarray(gold) > 0.5, votes > 0
        return examining.f1_by_weight((right & chosen).sum(1), right.sum(1) + chosen.sum(1))

    def scores_by_class(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        return metrics.f1_by_label(np.asarray(gold).astype(int), (votes > 0).astype(int), classes)

    def examine(
        self, evaluation: examining.Evaluation, classes: Sequence[str], generator: np.random.Generator
    ) -> tuple[dict[str, Any], dict[str, str]]:
        from scipy.special import expit

        from deni.measures import Estimate

        gold, chosen = np.asarray(evaluation.gold).astype(bool), evaluation.votes > 0  # (N, C)
        hits, sizes = (gold & chosen).sum(1), gold.sum(1) + chosen.sum(1)
        probabilities = expit(evaluation.members.astype(np.float64))  # (N, M, C)
        total = _binary_entropy(probabilities.mean(1)).sum(-1)
        part = np.maximum(total - _binary_entropy(probabilities).sum(-1).mean(1), 0)

        def listed(there: np.ndarray) -> str:
            return "; ".join(label for label, has in zip(classes, there, strict=True) if has) or "none"

        every = 2 * gold.sum() / (gold.sum() + gold.size)
        return {
            "score": Estimate(evaluation.metrics["micro_f1"], *examining.f1_interval(hits, sizes, generator)),
            "chance": {"micro F1": (evaluation.metrics["micro_f1"], float(every))},
            "always": "all labels",
            "per_label": examining.per_label(classes, (gold & chosen).sum(0), gold.sum(0), chosen.sum(0)),
            "uncertain": [
                examining.uncertain(evaluation, at, listed(gold[at]), listed(chosen[at]), total, part)
                for at in examining.largest(total)
            ],
        }, {
            "confusion": "A text has several labels, so there is no confusion matrix; the table has each label.",
            "calibration": (
                "A text has several labels, so there is no one confidence that could be compared with accuracy."
            ),
        }

    # ---- showing -----------------------------------------------------------------------------------------------------

    def predictions(
        self,
        texts: Sequence[Any],
        members: Tensor,
        votes: Tensor,
        classes: Sequence[str],
        temperature: float | None = None,
    ) -> list[dict[str, Any]]:
        return [
            {
                "labels": [label for label, odds in zip(classes, row, strict=True) if odds > 0],
                "probabilities": dict(zip(classes, row.sigmoid().tolist(), strict=True)),
            }
            for row in self.temper(votes, temperature)
        ]

    def table(self, predictions: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> pd.DataFrame:
        import pandas as pd

        rows = [
            {"labels": self.written(each["labels"])}
            | {f"probability_{label}": probability for label, probability in each["probabilities"].items()}
            for each in predictions
        ]
        return pd.DataFrame(rows, columns=["labels", *(f"probability_{label}" for label in classes)])


def _binary_entropy(probabilities: np.ndarray) -> np.ndarray:
    from scipy.special import entr

    return entr(probabilities) + entr(1 - probabilities)


def _one_label(value: Any, column: Column, at: int) -> str:
    """A label of a list."""
    if is_list(value) or isinstance(value, dict) or is_null(value):
        raise InputError(f"{column.where(at)}: {short(value)} is not a label; {_AS}")
    name = column.name_of(value)
    if ";" in name:  # files of predictions separate labels so
        raise InputError(
            f"{column.where(at)}: the label {short(name)} has a semicolon, which separates labels: rename it"
        )
    return name
