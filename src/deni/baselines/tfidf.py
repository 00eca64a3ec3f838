"""Words and characters, weighted by how few texts have them, and a regression."""

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
class Tfidf(Baseline, name="tfidf", row=2):
    """Tf-idf of words and characters, and logistic regression (ridge regression of numbers).

    Words alone and in twos, characters in twos to fives within words; C by stratified cross-validation. Pairs are |u -
    v| and u * v of their texts. Classes that have an order are taken as classes.
    """

    when: ClassVar[str] = "As what needs no pre-trained model: where it is as good, none is needed."

    def why_unfit(self, task: Task, pairs: bool) -> str:
        return "reads whole texts, and here each word has a tag: take frequent_tag" if task.of_words else ""

    def learn(self, train: Texts, labels: list[str], recipe: Recipe, device: Any) -> FittedBaseline:
        task = TASKS[train.task]
        gold = task.encode(train.labels or (), labels, train.source)
        fitted = cross_validated(
            _of_pairs if train.pairs else _of_texts,
            as_array(train.texts),
            gold,
            task,
            len(labels),
            recipe.class_weights,
        )
        return FittedBaseline(labels, lambda texts: outputs_of(task, fitted.logits(as_array(texts))), {"c": fitted.c})


def as_array(texts: Sequence[Text]) -> np.ndarray:
    """Texts or pairs, `(N,)`, to be taken by row numbers."""
    rows = np.empty(len(texts), dtype=object)
    rows[:] = list(texts)
    return rows


def _of_texts(texts: np.ndarray) -> Transform:
    """Learns which words and characters there are."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    # Without a token pattern that drops words of one letter, texts such as "a" or "?" still have a word.
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5))
    return make_union(words, characters).fit(texts).transform


def _of_pairs(pairs: np.ndarray) -> Transform:
    both = _of_texts(np.concatenate([as_array(side) for side in zip(*pairs, strict=True)]))

    def transform(pairs: np.ndarray) -> Any:
        return features_of_pairs(*(both(as_array(side)) for side in zip(*pairs, strict=True)))

    return transform
