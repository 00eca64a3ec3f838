"""A scikit-learn estimator over texts."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from deni.data import Texts
from deni.errors import InputError
from deni.finetune import Fitted, fine_tune, recipe

if TYPE_CHECKING:
    from deni.artifact import Classifier


class DeniClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tune a pre-trained language model on texts, in place of any scikit-learn classifier.

    X is a list, array or Series of texts, or a table with one column of texts; y are labels of any kind. Of
    scikit-learn's own estimator checks those that give numbers as X do not apply, since a text is needed; the test of
    this class names them.

    Args:
        model, epochs, learning_rate, batch_size, max_length, engine: as in `deni.finetune.Recipe`.
        strategy, tuning: names; `strategy_settings` and `tuning_settings` are their settings.
        preset: `paper`, `released` or None.
        random_state: an int, a `RandomState`, or None for 0: the same number gives the same model to the bit.
        progress: show a progress bar.

    Attributes:
        classes_: the labels, sorted, `(C,)`.
        fitted_: the trained population (`deni.finetune.Fitted`); not there after unpickling.
        classifier_: the population as a function of texts.

    Example: `DeniClassifier(model="minilm", strategy="deni").fit(texts, labels).predict(["where is my parcel"])`.
    """

    def __init__(
        self,
        model: str = "minilm",
        strategy: str = "deni",
        tuning: str = "full",
        *,
        epochs: float = 10,
        learning_rate: float | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        engine: str = "auto",
        preset: str | None = None,
        strategy_settings: Mapping[str, Any] | None = None,
        tuning_settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.tuning = tuning
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_length = max_length
        self.engine = engine
        self.preset = preset
        self.strategy_settings = strategy_settings
        self.tuning_settings = tuning_settings
        self.random_state = random_state
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.input_tags.one_d_array = True
        return tags

    def fit(self, X: Any, y: Any) -> DeniClassifier:
        """Train on texts X `(N,)` with labels y `(N,)`.

        Raises:
            ValueError: lengths that differ, one class only, what is not a text; the message names it.
        """
        texts, labels = as_texts(X), np.asarray(y)
        if labels.ndim != 1:
            raise InputError(f"y must be one label for each text, not an array of shape {labels.shape}")
        check_consistent_length(texts, labels)
        check_classification_targets(labels)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y has one class only ({self.classes_[0]!r}): a classifier needs 2 or more")
        width = len(str(len(self.classes_)))  # names that sort as the classes do
        named = Texts(texts, [f"{number:0{width}d}" for number in numbers], "X", None)  # type: ignore[arg-type]
        seed = self.random_state
        if seed is None:
            seed = 0
        elif not isinstance(seed, int | np.integer):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        plan = recipe(
            self.preset,
            self.strategy,
            self.tuning,
            self.strategy_settings,
            self.tuning_settings,
            model=self.model,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            max_length=self.max_length,
            engine=self.engine,
            seed=int(seed),
        )
        self.fitted_: Fitted = fine_tune(named, plan, progress=self.progress)
        self.classifier_: Classifier = self.fitted_.classifier()
        return self

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Log probabilities in the order of `classes_`: `(N, C)`."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.predict_log_probabilities(as_texts(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities in the order of `classes_`: `(N, C)`; rows sum to 1."""
        probabilities = np.exp(self.predict_log_proba(X).astype(np.float64))
        return probabilities / probabilities.sum(1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The label of each text, `(N,)`."""
        chosen = self.predict_log_proba(X).argmax(1)
        return self.classes_[chosen]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the trained population as the bytes of its artifact."""
        state = dict(super().__getstate__())
        fitted, classifier = state.pop("fitted_", None), state.pop("classifier_", None)
        if classifier is not None:
            from deni import artifact

            with tempfile.TemporaryDirectory() as folder:
                artifact.save(
                    Path(folder, "model"),
                    population=classifier.population,
                    tokenizer=classifier.tokenizer,
                    labels=classifier.labels,
                    info=fitted.info() if fitted is not None else classifier.info,
                )
                archive = io.BytesIO()
                with tarfile.open(fileobj=archive, mode="w") as tar:
                    tar.add(Path(folder, "model"), "model")
            state["_artifact"] = archive.getvalue()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load the population again."""
        packed = state.pop("_artifact", None)
        super().__setstate__(state)
        if packed is not None:
            from deni import artifact

            with tempfile.TemporaryDirectory() as folder:
                with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
                    tar.extractall(folder, filter="data")
                self.classifier_ = artifact.load(Path(folder, "model"))


def as_texts(X: Any) -> list[str]:
    """Texts from a list, array, Series or a table with one column.

    Raises:
        InputError: what is not a text, with its index.
    """
    if isinstance(X, str):
        raise InputError("X must be a list of texts, not one text: put it into a list")
    if hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if isinstance(X, np.ndarray):
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise InputError(f"X must be a list of texts, not an array of shape {X.shape}")
    if not isinstance(X, Sequence | np.ndarray):
        raise InputError(f"X must be a list of texts, not {type(X).__name__}")
    for at, text in enumerate(X):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"X[{at}] is {text!r}: every text must be a string that is not empty")
    if len(X) == 0:
        raise InputError("X has no texts")
    return [str(text) for text in X]
