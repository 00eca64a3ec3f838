"""One of several classes that have an order, such as the stars of a rating."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deni.errors import InputError, SettingError, short, shown
from deni.tasks import losses, metrics
from deni.tasks.base import ByWeight, register
from deni.tasks.column import Column
from deni.tasks.remarks import Remark
from deni.tasks.single_label import SingleLabel

if TYPE_CHECKING:
    from torch import Tensor


@register
class Ordinal(SingleLabel):
    """Exactly one class a text, and some errors are worse than others: softmax, squared earth mover's distance.

    Members say probabilities of classes and vote as in `single_label`; a plain model of transformers takes the most
    likely class, too. The quadratic kappa leads: it counts an error by the square of how many classes it is off, and
    always the same answer gets 0. Macro F1 takes all errors for alike.
    """

    name = "ordinal"
    help = "one of ordered classes (--label-order, or numbers)"
    ordered = True
    own_loss = True
    class_weights = False
    metrics = ("quadratic_kappa", "mean_absolute_error", "macro_f1")
    headline = compared = best = "quadratic_kappa"
    least = -1.0
    chance = 0.0
    uneven = "look at F1 of each"
    model_is = "A classifier of ordered classes"
    outputs_are = "Classes, in order"

    # ---- the column ------------------------------------------------------------------------------------------------

    def parse(self, column: Column) -> list[str] | None:
        """Strings; numbers in one spelling (5 and 5.0 are one class)."""
        labels = super().parse(column)
        order = list(column.order)
        if labels is None or not _numbers(order or labels):
            return labels
        return [_spelled(label) if _numbers([label]) else label for label in labels]

    def order_of(self, column: Column) -> tuple[str, ...]:
        """As given, else that of the numbers."""
        labels = self.parse(column) or []
        order = tuple(label.strip() for label in column.order)
        if _numbers(order):
            order = tuple(map(_spelled, order))
        if not order:
            if not _numbers(labels):
                word = next(label for label in labels if not _numbers([label])) if labels else None
                raise InputError(
                    f"{column.source}, column {column.name!r}: --task {self.name} needs the order of the classes, and "
                    f"{short(word)} is not a number: name all with --label-order, the lowest first, such as bad,ok,good"
                )
            return tuple(sorted(set(labels), key=float))
        if twice := [label for label, count in Counter(order).items() if count > 1 or not label]:
            what = f"{short(twice[0])} {order.count(twice[0])} times" if twice[0] else "an empty label"
            raise InputError(f"the order of the labels names {what}: name each once")
        for at, label in enumerate(labels):
            if label not in order:
                raise InputError(
                    f"{column.where(at)}: {short(label)} is not in the order of the labels, {shown(order)}: add it to "
                    "--label-order, or correct the row"
                )
        return order

    def class_names(self, labels: Sequence[Any], order: Sequence[str] = ()) -> list[str]:
        """All classes of the order, also those that no text here has: each is a step."""
        if order:
            return list(order)
        if not _numbers(labels):
            raise InputError(f"task {self.name} needs the order of the classes {shown(sorted(set(labels)))}: give it")
        return sorted(set(labels), key=float)

    # ---- for `deni inspect` ------------------------------------------------------------------------------------------

    def remarks(self, labels: Sequence[Any], flag: str) -> list[Remark]:
        return []

    # ---- training ----------------------------------------------------------------------------------------------------

    def member_losses(
        self,
        logits: Tensor,
        labels: Tensor,
        members: int,
        weight: Tensor | None = None,
        soft: losses.Soft | None = None,
    ) -> Tensor:
        """The squared earth mover's distance (Hou, Yu & Samaras 2016, arXiv 1611.05916): over the classes, the sum of
        the squared differences of the cumulative distributions; a step more counts a class more."""
        import torch
        from torch.nn.functional import one_hot

        if labels.is_floating_point():
            raise SettingError(f"task {self.name} needs class numbers, from 0 to {logits.shape[-1] - 1}, not fractions")
        predicted = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
        targets = None if soft is None else soft.fitting(logits)
        right = one_hot(labels, logits.shape[-1]).to(predicted) if targets is None else targets
        distances = (predicted - right).cumsum(-1).square().sum(-1)  # (M*B,)
        return losses.mean_by_member(distances, members, soft)

    def items(self, labels: Tensor, weight: Tensor | None = None, soft: losses.Soft | None = None) -> Tensor:
        return losses.counted_rows(labels, soft)

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def scores(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str] = ()) -> dict[str, float]:
        """Quadratic kappa, from -1 to 1, 0 where gold and votes are all one class; mean absolute error in steps from
        class to class; macro F1."""
        from sklearn.metrics import cohen_kappa_score

        votes = np.asarray(votes)
        right, chosen = np.asarray(gold), votes.argmax(-1)
        alone = len(np.union1d(right, chosen)) == 1
        every = np.arange(votes.shape[-1])  # scikit-learn counts steps along this list
        kappa = 0.0 if alone else cohen_kappa_score(right, chosen, labels=every, weights="quadratic")
        return {
            "quadratic_kappa": float(kappa),
            "mean_absolute_error": float(np.abs(right - chosen).mean()),
            "macro_f1": metrics.of_classes(right, chosen)["macro_f1"],
        }

    def interval(self, confusion: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
        from deni.measures import other_texts

        right, chosen = np.nonzero(confusion)
        return other_texts(_kappa(right, chosen), confusion[right, chosen], generator=generator)

    def headline_by_weight(self, gold: Sequence[Any], votes: np.ndarray, classes: Sequence[str]) -> ByWeight:
        return _kappa(np.asarray(gold), votes.argmax(-1))

    def against_chance(self, measured: dict[str, float], gold: np.ndarray) -> dict[str, tuple[float, float]]:
        from deni.measures import majority_score

        return {
            "quadratic kappa": (measured["quadratic_kappa"], 0.0),
            "macro F1": (measured["macro_f1"], majority_score(gold)),
        }


def _kappa(right: np.ndarray, chosen: np.ndarray) -> ByWeight:
    """The quadratic kappa of classes `(K,)` by how often each pair counts, `(R, K)`."""

    def kappa(weights: np.ndarray) -> np.ndarray:  # (R, K) -> (R,)
        """1 - observed / expected squared error; the latter from means and variances of both sides."""
        total = weights.sum(1)
        a, b = (weights @ each / total for each in (right, chosen))
        spread = weights @ right**2 / total - a**2 + weights @ chosen**2 / total - b**2
        expected = spread + (a - b) ** 2
        observed = weights @ (right - chosen) ** 2 / total
        return np.divide(expected - observed, expected, out=np.zeros(len(total)), where=expected > 1e-12)

    return kappa


def _numbers(labels: Iterable[Any]) -> bool:
    """Whether there are labels and all are finite numbers."""
    labels = list(labels)
    try:
        return bool(labels) and all(math.isfinite(float(label)) for label in labels)
    except (TypeError, ValueError):
        return False


def _spelled(label: str) -> str:
    """A number as short as it can be written.

    >>> _spelled("5.0"), _spelled("4.5")
    ('5', '4.5')
    """
    number = float(label)
    return str(int(number)) if number.is_integer() else repr(number)
