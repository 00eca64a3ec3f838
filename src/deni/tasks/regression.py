"""A number for each text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.errors import InputError, short
from deni.tasks import examining, losses, metrics, probing, voting
from deni.tasks.base import ByWeight, Task, register
from deni.tasks.column import Column
from deni.tasks.remarks import Remark

if TYPE_CHECKING:
    from torch import Tensor

FEWEST_TEXTS, FEW_NUMBERS = 20, 5  # texts that say something; different numbers that no regression has
MOST_POINTS = 2000  # texts that the report draws one by one


@register
class Regression(Task):
    """A number for each text, as it is: squared error, Pearson's correlation."""

    name = "regression"
    help = "a number"
    problem_type = "regression"
    chooses = False
    metrics = ("pearson", "rmse")
    headline = compared = "pearson"
    best = "rmse"
    best_is_highest = False
    least = -1.0
    in_points = False
    answer = "value"
    prediction_types: ClassVar = {"value": float | list[float], "standard_deviation": float | list[float]}
    model_is = "A model that gives a text a number (regression),"
    outputs_are = "Outputs"
    unsure = "Test texts on which the members' numbers are farthest apart"
    unsure_because = "their numbers may be wrong"
    unsure_unit = "SD"

    # ---- the column ------------------------------------------------------------------------------------------------

    def parse(self, column: Column) -> list[float]:
        """Finite numbers."""
        numbers = []
        for at, value in enumerate(column.values):
            try:
                number = math.nan if isinstance(value, bool) else float(value)
            except (TypeError, ValueError):
                number = math.nan
            if not math.isfinite(number):
                raise InputError(
                    f"{column.where(at)}: {short(value)} is not a finite number, as --task regression needs; write one "
                    "such as 3.5, or drop the row"
                )
            numbers.append(number)
        return numbers

    def class_names(self, labels: Sequence[Any], order: Sequence[str] = ()) -> list[str]:
        return ["value"]

    def encode(self, labels: Sequence[Any], classes: Sequence[str], source: str) -> list[float]:
        return list(labels)

    # ---- for `deni inspect` ------------------------------------------------------------------------------------------

    def unlearnable(self, labels: Sequence[Any], flag: str) -> Remark | None:
        if len(set(labels)) > 1:
            return None
        message = f"all texts have the number {labels[0]}: there is nothing to learn"
        return Remark("one_number", "error", message, len(labels))

    def remarks(self, labels: Sequence[Any], flag: str) -> list[Remark]:
        count = len(set(labels))
        if len(labels) < FEWEST_TEXTS or count > FEW_NUMBERS:
            return []
        message = f"only {count} different numbers; --task single_label would learn them as classes"
        return [Remark("few_numbers", "note", message, count)]

    def figures(self, labels: Sequence[Any]) -> dict[str, Any]:
        """Mean, standard deviation, quartiles and how many different numbers."""
        numbers = np.asarray(labels, dtype=np.float64)
        quartiles = np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]).tolist()
        summary = {
            "mean": float(numbers.mean()),
            "sd": float(numbers.std()),
            **dict(zip(("min", "25%", "50%", "75%", "max"), quartiles, strict=True)),
            "different": len(np.unique(numbers)),
        }
        return {"numbers": summary}

    # ---- training and predicting -------------------------------------------------------------------------------------

    def member_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        return losses.squared_error(logits, labels, members, soft)

    def difference(
        self,
        first: Tensor,
        other: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        """The squared difference of two numbers."""
        return losses.mean_by_member((self.outputs(first) - self.outputs(other)).square(), members, soft)

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
        return probing.on_numbers(features, labels, classes, c, intercept, rows)

    def outputs(self, logits: Tensor) -> Tensor:
        return voting.at_least_float32(logits)

    def vote(self, outputs: Tensor, combine: voting.Combine = "soft") -> Tensor:
        return voting.on_numbers(outputs, combine)

    def choose(self, outputs: Any) -> None:
        return None

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def scores(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str] = ()) -> dict[str, float]:
        return metrics.of_numbers(np.asarray(gold, dtype=np.float64), np.asarray(votes, dtype=np.float64)[:, 0])

    def headline_by_weight(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> ByWeight:
        right, predicted = np.asarray(gold, dtype=np.float64), votes[:, 0].astype(np.float64)
        # Around their means, so that the sums of squares stay exact.
        x, y = right - right.mean(), predicted - predicted.mean()
        moments = np.stack([x, y, x**2, y**2, x * y, np.ones(len(right))], 1)  # (N, 6)

        def score(weights: np.ndarray) -> np.ndarray:
            x, y, xx, yy, xy, n = (weights @ moments).T
            below = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0))
            return np.divide(xy - x * y / n, below, out=np.zeros(len(n)), where=below > 1e-12)

        return score

    def disagreement(self, members: np.ndarray) -> float:
        """The members' SD, mean over the texts."""
        return float(members[..., 0].std(1).mean())

    def differs(self, member: np.ndarray, votes: np.ndarray) -> None:
        return None

    def examine(
        self, evaluation: examining.Evaluation, classes: Sequence[str], generator: np.random.Generator
    ) -> tuple[dict[str, Any], dict[str, str]]:
        import pandas as pd

        from deni.measures import Estimate, other_texts

        gold, predicted = np.asarray(evaluation.gold, dtype=np.float64), evaluation.votes[:, 0].astype(np.float64)
        score = self.headline_by_weight(evaluation.gold, evaluation.votes, classes)
        ends = other_texts(score, np.ones(len(gold)), generator=generator)
        missing = {
            "confusion": "The labels are numbers, so there is no confusion matrix; the figure has every text.",
            "calibration": "The labels are numbers, so there are no probabilities that could be calibrated.",
        }
        spread = evaluation.members[..., 0].astype(np.float64).std(1)
        found = []
        if evaluation.members.shape[1] > 1:
            found = [
                examining.UncertainText(
                    examining.parts_of(evaluation, at),
                    f"{gold[at]:.4g}",
                    f"{predicted[at]:.4g}",
                    float(spread[at]),
                    None,
                )
                for at in examining.largest(spread)
            ]
        else:
            missing["uncertain"] = "One model predicts numbers, which do not say how sure it is."
        drawn = generator.permutation(len(gold))[:MOST_POINTS]
        return {
            "score": Estimate(evaluation.metrics["pearson"], *ends),
            "chance": {"RMSE": (evaluation.metrics["rmse"], float(gold.std()))},
            "always": "the mean",
            "uncertain": found,
            "points": pd.DataFrame({"gold": gold[drawn], "predicted": predicted[drawn]}),
        }, missing

    # ---- showing -----------------------------------------------------------------------------------------------------

    def predictions(
        self,
        texts: Sequence[Any],
        members: Tensor,
        votes: Tensor,
        classes: Sequence[str],
        temperature: float | None = None,
    ) -> list[dict[str, Any]]:
        one = votes.shape[-1] == 1
        spread = members.double().std(1, correction=0)
        values, spreads = (each[:, 0].tolist() if one else each.tolist() for each in (votes, spread))
        return [{"value": value, "standard_deviation": sd} for value, sd in zip(values, spreads, strict=True)]
