"""One label a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.errors import InputError, short, shown
from deni.tasks import examining, losses, metrics, probing, voting
from deni.tasks.base import ByWeight, Task, register, unknown_label
from deni.tasks.column import Column, and_others, is_list, is_null, warn
from deni.tasks.remarks import Remark, many

if TYPE_CHECKING:
    from torch import Tensor

MANY_NUMBERS = 20  # different numbers that no classes have


@register
class SingleLabel(Task):
    """Exactly one class a text: softmax, cross-entropy, macro F1."""

    name = "single_label"
    help = "one label a text"
    problem_type = "single_label_classification"
    distribution = True
    class_weights = True
    metrics = ("macro_f1", "accuracy", "mcc")
    headline = compared = best = "macro_f1"
    uneven = "look at macro F1, and try --class-weights"
    answer = "label"
    prediction_types: ClassVar = {"label": str, "confidence": float, "agreement": float, "entropy": float}
    model_is = "A text classifier"
    outputs_are = "Classes"

    # ---- the column ------------------------------------------------------------------------------------------------

    def parse(self, column: Column) -> list[str] | None:
        """Stripped strings."""
        if (lists := column.lists()) is not None:
            at = next(at for at, value in enumerate(lists) if is_list(value))
            raise InputError(
                f"{column.where(at)}: {short(column.values[at])} is a list where one label was expected; --task "
                "multi_label reads lists, else write the label alone"
            )
        labels = []
        empty = None
        for at, value in enumerate(column.values):
            if is_list(value) or isinstance(value, dict):
                raise InputError(
                    f"{column.where(at)}: {short(value)} where one label was expected; each text has exactly one class"
                )
            label = "" if is_null(value) else column.name_of(value)
            if not label and empty is None:
                empty = at
            labels.append(label)
        if empty is None:
            return labels
        where = f"{column.where(empty)}: empty label"
        if column.required:
            raise InputError(f"{where}{and_others(labels.count('') - 1)}; fill it in or drop the row")
        if any(labels):
            warn(f"{where}, so no labels are read; fill it in to have the predictions scored")
        return None

    def classes_in(self, label: Any) -> tuple[str, ...]:
        return (label,)

    def class_names(self, labels: Sequence[Any], order: Sequence[str] = ()) -> list[str]:
        return sorted(set(labels))

    def encode(self, labels: Sequence[Any], classes: Sequence[str], source: str) -> list[int]:
        """Class numbers."""
        numbers = {label: at for at, label in enumerate(classes)}
        for row, label in enumerate(labels, start=1):
            if label not in numbers:
                raise unknown_label(source, row, label, classes)
        return [numbers[label] for label in labels]

    # ---- for `deni inspect` ------------------------------------------------------------------------------------------

    def unlearnable(self, labels: Sequence[Any], flag: str) -> Remark | None:
        counts = Counter(labels)
        if len(counts) > 1:
            return None
        message = (
            f"all {len(labels)} texts have the label {shown(counts)}; "
            f"training needs at least two classes: add texts of another class or name another {flag}"
        )
        return Remark("one_class", "error", message, len(labels))

    def remarks(self, labels: Sequence[Any], flag: str) -> list[Remark]:
        if len(labels) < MANY_NUMBERS:
            return []
        different = set(labels)
        count = len(different)
        parts = {part.strip() for label in different for part in label.split(";")}
        if count > MANY_NUMBERS and _are_numbers(different, len(labels)):
            kind, message = "numbers", f"the labels are {count} different numbers; --task regression reads them so"
        elif any(";" in label for label in different) and len(parts) < count:
            kind = "several_labels"
            message = (
                f"some labels hold a semicolon, and their parts are {len(parts)} labels; --task multi_label splits them"
            )
        elif count > len(labels) / 2:
            kind = "many_classes"
            message = (
                f"{count:,} different labels for {many(len(labels))}; look whether it is the right column ({flag})"
            )
        else:
            return []
        return [Remark(kind, "warning", message, count)]

    def figures(self, labels: Sequence[Any]) -> dict[str, Any]:
        return {"baseline": baseline(Counter(labels))} if labels else {}

    # ---- training and predicting -------------------------------------------------------------------------------------

    def member_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        return losses.cross_entropy(logits, labels, members, weight, soft)

    def difference(
        self,
        first: Tensor,
        other: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        """The symmetric Kullback-Leibler divergence of two distributions over classes."""
        return losses.of_distributions(self.outputs(first), self.outputs(other), labels, members, weight, soft)

    def contrast(
        self,
        features: Tensor,
        labels: Tensor,
        members: int,
        temperature: float,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        return losses.supervised_contrast(features, labels, members, temperature, weight, soft)

    def items(self, labels: Tensor, weight: Tensor | None = None, soft: losses.Soft | None = None) -> Tensor:
        counts = losses.counted(labels, weight, soft=soft)
        return counts.flatten(1).sum(1) if labels.dim() > 1 else counts

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
        return probing.on_classes(features, labels, classes, c, intercept, weight, rows)

    def outputs(self, logits: Tensor) -> Tensor:
        """Log probabilities."""
        return voting.at_least_float32(logits).log_softmax(-1)

    def vote(self, outputs: Tensor, combine: voting.Combine = "soft") -> Tensor:
        return voting.on_classes(outputs, combine)

    def choose(self, outputs: Any) -> Any:
        return outputs.argmax(-1)

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def scores(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str] = ()) -> dict[str, float]:
        return metrics.of_classes(gold, np.asarray(votes).argmax(-1))

    def headline_by_weight(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> ByWeight:
        from deni.measures import macro_f1

        right, chosen = np.asarray(gold), votes.argmax(-1)
        return lambda weights: macro_f1(chosen[None], right, weights)[:, 0]

    def scores_by_class(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        return metrics.f1_by_class(gold, votes.argmax(-1), classes)

    def interval(self, confusion: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
        """The ends of the headline's interval over other test texts, from the confusion matrix."""
        from deni.measures import macro_f1, other_texts

        right, chosen = np.nonzero(confusion)
        return other_texts(
            lambda weights: macro_f1(chosen[None], right, weights)[:, 0],
            confusion[right, chosen],
            generator=generator,
        )

    def against_chance(self, measured: dict[str, float], gold: np.ndarray) -> dict[str, tuple[float, float]]:
        """Metrics of the vote, and of always the most frequent class."""
        from deni.measures import accuracy, majority_score

        return {
            "accuracy": (measured["accuracy"], majority_score(gold, accuracy)),
            "macro F1": (measured["macro_f1"], majority_score(gold)),
        }

    def examine(
        self, evaluation: examining.Evaluation, classes: Sequence[str], generator: np.random.Generator
    ) -> tuple[dict[str, Any], dict[str, str]]:
        from deni.measures import Estimate, mutual_information, predictive_entropy

        gold, chosen = np.asarray(evaluation.gold), evaluation.votes.argmax(-1)
        confusion, found = examining.of_choices(classes, gold, chosen, evaluation.votes)
        total, part = predictive_entropy(evaluation.members), mutual_information(evaluation.members)
        return {
            **found,
            "score": Estimate(evaluation.metrics[self.headline], *self.interval(confusion, generator)),
            "chance": self.against_chance(evaluation.metrics, gold),
            "always": classes[int(np.bincount(gold).argmax())],
            "uncertain": [
                examining.uncertain(evaluation, at, classes[gold[at]], classes[chosen[at]], total, part)
                for at in examining.largest(total)
            ],
        }, {}

    # ---- showing -----------------------------------------------------------------------------------------------------

    def predictions(
        self,
        texts: Sequence[Any],
        members: Tensor,
        votes: Tensor,
        classes: Sequence[str],
        temperature: float | None = None,
    ) -> list[dict[str, Any]]:
        import torch

        chosen, votes = votes.argmax(-1), self.temper(votes, temperature)
        mean = self.temper(self.vote(members, "soft"), temperature)
        agreement = (members.argmax(-1) == chosen[:, None]).double().mean(1)
        entropy = torch.special.entr(mean.exp()).sum(-1)
        return [
            {
                "label": classes[int(label)],
                "confidence": float(votes[row, label].exp()),
                "agreement": float(agreement[row]),
                "entropy": float(entropy[row]),
            }
            for row, label in enumerate(chosen)
        ]


def baseline(counts: dict[str, int]) -> dict[str, float]:
    """The score of always predicting the largest class.

    >>> baseline({"a": 3, "b": 1})
    {'accuracy': 0.75, 'macro_f1': 0.42857142857142855}
    """
    share = max(counts.values()) / sum(counts.values())
    return {"accuracy": share, "macro_f1": 2 * share / (1 + share) / len(counts)}


def _are_numbers(labels: set[str], texts: int) -> bool:
    """Tell numbers from classes that have numbers: a fraction, or fewer than five texts for each."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return False
    return any(number % 1 for number in numbers) or texts < 5 * len(numbers)
