"""Always the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.baselines.base import Baseline, FittedBaseline
from deni.tasks import TASKS, Task

if TYPE_CHECKING:
    from deni.data import Text, Texts
    from deni.recipe import Recipe

LEAST = float(np.finfo(np.float32).tiny)  # probability of a class that no text has: its logarithm is finite


@dataclass(frozen=True)
class Majority(Baseline, name="majority", row=1):
    """Always the most frequent class, by the shares of the classes; the mean of numbers.

    Of several labels those that more than half of the texts have; of words the most frequent tag.
    """

    when: ClassVar[str] = "As the least that anything must beat."
    packages: ClassVar[tuple[str, ...]] = ()

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        task = TASKS[train.task]
        row = outputs_of_shares(task, task.encode(train.labels or (), labels, train.source), len(labels))

        def outputs(texts: Sequence[Text]) -> np.ndarray:
            rows = sum(map(len, texts)) if task.of_words else len(texts)
            return np.tile(row, (rows, 1))

        return FittedBaseline(labels, outputs)


def outputs_of_shares(task: Task, gold: Sequence[Any], outputs: int) -> np.ndarray:
    """What texts of these labels have in common, as outputs `(C,)`.

    >>> from deni.tasks import find_task
    >>> np.exp(outputs_of_shares(find_task("single_label"), [0, 0, 0, 1], 2)).round(2)
    array([0.75, 0.25])
    """
    if task.distribution:
        classes = np.concatenate(gold) if task.of_words else np.asarray(gold)
        return np.log(np.maximum(np.bincount(classes, minlength=outputs) / len(classes), LEAST))
    rows = np.asarray(gold, dtype=np.float64).reshape(len(gold), outputs)
    if task.chooses:  # log odds; one text of either kind more keeps them finite
        have = rows.sum(0)
        return np.log(have + 1) - np.log(len(rows) - have + 1)
    return rows.mean(0)
