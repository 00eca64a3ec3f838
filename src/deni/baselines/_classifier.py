"""A baseline as an estimator of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from deni.data import Text, Texts, why_no_text
from deni.errors import InputError, short


class BaselineClassifier(ClassifierMixin, BaseEstimator):
    """A baseline in place of any classifier of scikit-learn: one label for each text, or pair of texts.

    For several labels, numbers, or tags of words: `make_baseline(name).fit(texts, recipe)`, with `deni.data.Texts`.

    Args:
        baseline: `majority`, `tfidf`, `frozen`, `setfit` or `llm`.
        model: of `frozen` and `setfit`: `minilm`, a folder, or a hub id.
        max_length: tokens after which they cut a text; None for the model's limit.
        pooling: of `frozen`, see `deni.models.features.FrozenEncoder`.
        class_weights: whether all classes count alike.
        device: where `frozen` computes: `auto`, `cpu`, `cuda`, ...
        settings: the baseline's own, such as `{"llm_model": "NAME", "yes": True}`.

    Attributes:
        classes_: the labels, sorted, `(C,)`.
        notes_: what was chosen, such as `c`, or counted in the last prediction, such as tokens.

    >>> texts, labels = ["red wine", "red car", "green tea", "green car"], ["red", "red", "green", "green"]
    >>> BaselineClassifier("tfidf").fit(texts, labels).predict(["a red house"]).tolist()
    ['red']
    """

    def __init__(
        self,
        baseline: str = "tfidf",
        model: str = "minilm",
        *,
        max_length: int | None = None,
        pooling: str = "auto",
        class_weights: bool = False,
        device: str = "auto",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.baseline = baseline
        self.model = model
        self.max_length = max_length
        self.pooling = pooling
        self.class_weights = class_weights
        self.device = device
        self.settings = settings

    def fit(self, X: Sequence[Text], y: Sequence[Any]) -> BaselineClassifier:
        """Learn from texts or pairs of texts X `(N,)` with labels y `(N,)`."""
        from deni.baselines import make_baseline
        from deni.recipe import Recipe

        baseline, texts = make_baseline(self.baseline, **(self.settings or {})), _as_texts(X)
        classes, numbers = np.unique(np.asarray(y), return_inverse=True)
        if len(numbers) != len(texts):
            raise InputError(f"{len(texts)} texts and {len(numbers)} labels: give each text one")
        names = [str(each) for each in classes]
        recipe: Any = Recipe.of(
            strategy="default",
            model=self.model,
            max_length=self.max_length,
            pooling=self.pooling,
            class_weights=self.class_weights,
        )
        fitted = baseline.fit(Texts(texts, [names[at] for at in numbers], "X", None), recipe, self.device)
        self.classes_, self.notes_, self._outputs = classes, fitted.notes, fitted.outputs
        self._columns = [fitted.labels.index(name) for name in names]  # 10 is behind 9, as a name in front of it
        return self

    def predict_log_proba(self, X: Sequence[Text]) -> np.ndarray:
        """Log probabilities in the order of `classes_`, `(N, C)`."""
        check_is_fitted(self, "classes_")
        return self._outputs(_as_texts(X))[:, self._columns]

    def predict_proba(self, X: Sequence[Text]) -> np.ndarray:
        """Probabilities in the order of `classes_`, `(N, C)`."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Sequence[Text]) -> np.ndarray:
        """The label of each text, `(N,)`."""
        return self.classes_[self.predict_log_proba(X).argmax(1)]


def _as_texts(X: Any) -> list[Text]:
    if isinstance(X, str):
        raise InputError("X must be a list of texts, not one text: put it into a list")
    rows: list[Text] = [tuple(each) if isinstance(each, list | tuple) else each for each in X]
    if not rows:
        raise InputError("X has no texts")
    pairs = isinstance(rows[0], tuple)
    for at, row in enumerate(rows):
        parts = row if pairs and isinstance(row, tuple) and len(row) == 2 else () if pairs else (row,)
        why = next(filter(None, map(why_no_text, parts)), None) if parts else "give (text, text), as X[0] is"
        if why:
            raise InputError(f"X[{at}] is {short(row)}: {why}")
    return rows
