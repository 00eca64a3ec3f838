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
    from deni.models.features import FrozenEncoder
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
        task = TASKS[train.task]
        gold = task.encode(train.labels or (), labels, train.source)
        encoder = frozen_encoder(recipe, device)
        features = features_of(encoder, train.texts)
        fitted = cross_validated(standardized, features, gold, task, len(labels), recipe.class_weights)
        return FittedBaseline(
            labels,
            lambda texts: outputs_of(task, fitted.logits(features_of(encoder, texts))),
            {"c": fitted.c, "pooling": encoder.pooled.kind, "max_length": encoder.max_length},
        )


def frozen_encoder(recipe: Recipe, device: Any = None) -> FrozenEncoder:
    """The encoder that a recipe names, as it is; cut at its limit, or before."""
    from deni.models.features import FrozenEncoder
    from deni.models.loading import load_tokenizer, token_limit

    limit = token_limit(recipe.model, load_tokenizer(recipe.model))
    return FrozenEncoder(
        recipe.model,
        recipe.pooling,
        recipe.normalize_features,
        min(recipe.max_length or limit, limit),
        recipe.eval_batch_size,
        device,
    )


def features_of(encoder: FrozenEncoder, texts: Sequence[Text], progress: bool = False) -> np.ndarray:
    """The features of texts or pairs, `(N, D)` or `(N, 2D)`."""
    from deni.data import sides

    vectors = [encoder(side, progress) for side in sides(texts)]
    return vectors[0] if len(vectors) == 1 else features_of_pairs(*vectors)


def standardized(features: np.ndarray) -> Transform:
    """Learns mean and SD of each feature; rows then have a norm of about 1."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    size = np.sqrt(features.shape[1])
    return lambda given: scaler.transform(given) / size
