"""The encoder as it is, and a regression on its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from deni.baselines.base import Baseline, FittedBaseline
from deni.baselines.pairs import features_of_pairs
from deni.baselines.regression import Transform, cross_validated, outputs_of
from deni.tasks import TASKS, Task

if TYPE_CHECKING:
    from deni.data import Text, Texts
    from deni.recipe import Recipe


@dataclass(frozen=True)
class Frozen(Baseline, name="frozen", row=3):
    """The encoder without training, and logistic regression on its vectors (ridge regression of numbers).

    A vector is the mean of the tokens, or what the encoder's files declare; C by stratified cross-validation. Pairs are
    |u - v| and u * v of their texts, each encoded by itself. Classes that have an order are taken as classes.
    """

    when: ClassVar[str] = "As what takes seconds: what fine-tuning must beat to be worth its cost."

    def why_unfit(self, task: Task, pairs: bool) -> str:
        return "reads whole texts, and here each word has a tag: take frequent_tag" if task.of_words else ""

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        from deni.data import sides
        from deni.models.features import FrozenEncoder
        from deni.models.loading import load_tokenizer, token_limit

        task = TASKS[train.task]
        gold = task.encode(train.labels or (), labels, train.source)
        limit = token_limit(recipe.model, load_tokenizer(recipe.model))
        encoder = FrozenEncoder(
            recipe.model,
            recipe.pooling,
            recipe.normalize_features,
            min(recipe.max_length or limit, limit),
            recipe.eval_batch_size,
            device,
        )

        def features(texts: Sequence[Text]) -> np.ndarray:
            vectors = [encoder(side) for side in sides(texts)]
            return vectors[0] if len(vectors) == 1 else features_of_pairs(*vectors)

        fitted = cross_validated(_standardized, features(train.texts), gold, task, len(labels), recipe.class_weights)
        return FittedBaseline(
            labels,
            lambda texts: outputs_of(task, fitted.logits(features(texts))),
            {"c": fitted.c, "pooling": encoder.pooled.kind, "max_length": encoder.max_length},
        )


def _standardized(features: np.ndarray) -> Transform:
    """Learns mean and SD of each feature; rows then have a norm of about 1."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    size = np.sqrt(features.shape[1])
    return lambda given: scaler.transform(given) / size
