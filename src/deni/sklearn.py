"""A scikit-learn estimator over texts."""

from __future__ import annotations

import dataclasses
import io
import math
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from deni.data import Texts, why_no_text
from deni.errors import InputError, short
from deni.recipe import Recipe
from deni.tasks import DEFAULT, TASKS, find_task

if TYPE_CHECKING:
    from deni.artifact import Classifier
    from deni.finetune import FineTuneResult


class DeniClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tune a pre-trained language model on texts, in place of any scikit-learn classifier.

    X is a list, array or Series of texts, or a table with one column of texts; y are labels of any one kind: strings,
    numbers or booleans, one for each text. Several labels, numbers to predict and labels of words are refused.
    Classes with an order are a task: numbers, or with `label_order`.

    scikit-learn's own estimator checks give numbers as X. With a text in place of each row of numbers they all pass,
    but for those that do not apply to texts:

    - check_n_features_in, check_n_features_in_after_fitting: texts have no features that could be counted;
    - check_fit1d, check_fit2d_predict1d: they ask that an X of one dimension is refused, but texts have one;
    - check_classifiers_train: it asks for an accuracy that needs the numbers themselves;
    - check_sample_weight_equivalence_on_dense_data: a row that is repeated fills other batches than one of weight 2. In
      a single batch both are the same.

    Args:
        model, epochs, learning_rate, batch_size, max_length, dropout, bf16, pooling, normalize_features, pairs, engine:
            as in `deni.recipe.Recipe`.
        task: one in which each text has one class, see `deni.tasks.TASKS`.
        label_order: the classes from the lowest to the highest, for a task whose classes have an order; None for that
            of numbers.
        strategy, tuning: names; `strategy_settings` and `tuning_settings` are their settings. The strategy `auto`
            chooses both, and with them epochs, rate and pooling, where these are not given (see `deni.auto`).
        preset: `paper`, `released` or None.
        random_state: an int, a `RandomState`, or None for 0: the same number gives the same model to the bit.
        source_seeds: seeds of single sources of randomness in place of `random_state`, such as `{"dropout": 3}`.
        cv: how many folds estimate the score, such as 5; None for no cross-validation. The model is trained on all
            texts either way.
        cv_seeds: how many times the texts are divided into folds anew, each time with other seeds.
        class_weight: how much each class counts in the loss: a dictionary, or `balanced`, inversely to its number of
            texts; None: all texts alike. The weight of a text is that of its class times its `sample_weight`.
        device: where to train and predict: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        progress: show a progress bar.

    Attributes:
        classes_: the labels, sorted, or in their order, `(C,)`.
        fitted_: the trained population (`deni.finetune.FineTuneResult`); not there after unpickling.
        classifier_: the population as a function of texts.
        cv_results_: with `cv`: `test_score` of each fold, `(cv_seeds * cv,)`, as `cross_validate` of scikit-learn has
            it; `metric`, which it is (the task's headline), and `score`, `low`, `high`, the estimate for the model that
            predicts, with its interval.
        cv_predict_proba_: with `cv`: probabilities of each text by models that had not seen it, `(N, C)`, as
            `cross_val_predict` has them, mean over `cv_seeds`.

    Example: `DeniClassifier(model="minilm", strategy="auto").fit(texts, labels).predict(["where is my parcel"])`.
    """

    def __init__(
        self,
        model: str = "minilm",
        strategy: str = "auto",
        tuning: str | None = None,
        *,
        task: str = DEFAULT,
        label_order: Sequence[Any] | None = None,
        epochs: float | None = None,
        learning_rate: float | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
        dropout: float | None = None,
        bf16: bool | None = None,
        pooling: str | None = None,
        normalize_features: bool | None = None,
        pairs: str = "cross",
        engine: str = "auto",
        preset: str | None = None,
        strategy_settings: Mapping[str, Any] | None = None,
        tuning_settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
        source_seeds: Mapping[str, int] | None = None,
        cv: int | None = None,
        cv_seeds: int = 1,
        class_weight: Mapping[Any, float] | str | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> None:
        self.model = model
        self.strategy = strategy
        self.tuning = tuning
        self.task = task
        self.label_order = label_order
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_length = max_length
        self.dropout = dropout
        self.bf16 = bf16
        self.pooling = pooling
        self.normalize_features = normalize_features
        self.pairs = pairs
        self.engine = engine
        self.preset = preset
        self.strategy_settings = strategy_settings
        self.tuning_settings = tuning_settings
        self.random_state = random_state
        self.source_seeds = source_seeds
        self.cv = cv
        self.cv_seeds = cv_seeds
        self.class_weight = class_weight
        self.device = device
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.input_tags.one_d_array = True
        return tags

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, unlabelled: Any = None, unlabeled: Any = None
    ) -> DeniClassifier:
        """Train on texts X `(N,)` with labels y `(N,)`.

        Args:
            X, y: see above.
            sample_weight: how much each text counts in the mean loss of its batch, `(N,)`, at least 0; None: all alike.
            unlabelled, unlabeled: two spellings of one argument: texts without labels, as X has them. Then a teacher is
                trained whose members vote, and what predicts is its student, see `deni.fine_tune`.

        Raises:
            ValueError: lengths that differ, one class only, a label that is missing or of another kind than the rest,
                what is not a text; the message names it. What an earlier fit learned stays.
        """
        from deni.finetune import fine_tune  # with transformers and PEFT, which `import` alone need not wait for
        from deni.finetune.unlabelled import one_spelling

        labels = as_labels(y)
        texts = self._texts(X)
        check_consistent_length(texts, labels)
        unlabelled = one_spelling(unlabelled, unlabeled)
        pool = None if unlabelled is None else self._texts(unlabelled, "unlabelled")
        classes, numbers = self._classes(labels)
        if len(classes) < 2:
            raise InputError(f"y has one class only ({short(classes.tolist()[0])}): a classifier needs 2 or more")
        weights, balanced = self._weights(sample_weight, labels)
        if weights is not None and len(np.unique(numbers[weights > 0])) < 2:
            raise InputError("sample_weight and class_weight leave one class only: a classifier needs 2 or more")
        if weights is not None and pool is not None:
            raise InputError("sample_weight and class_weight are not for training with unlabelled: give one of them")
        width = len(str(len(classes)))  # names that sort as the classes do
        names = [f"{number:0{width}d}" for number in range(len(classes))]
        order = names if find_task(self.task).ordered else ()
        named = Texts(texts, [names[number] for number in numbers], "X", None, self.task, order, weights=weights)
        if "data_split" in (self.source_seeds or {}) and self.cv is None:
            raise InputError("source_seeds names data_split, but fit trains on all of X: omit it")
        seed = self.random_state
        if seed is None:
            seed = 0
        elif not isinstance(seed, int | np.integer):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        plan = Recipe.of(
            self.preset,
            self.strategy,
            self.tuning,
            self.strategy_settings,
            self.tuning_settings,
            model=self.model,
            task=self.task,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            max_length=self.max_length,
            dropout=self.dropout,
            bf16=self.bf16,
            pooling=self.pooling,
            normalize_features=self.normalize_features,
            pairs=self.pairs,
            engine=self.engine,
            class_weights=balanced,
            seed=int(seed),
            source_seeds=self.source_seeds,
        )
        fitted = fine_tune(
            named,
            plan,
            progress=self.progress,
            device=self.device,
            cv=self.cv,
            cv_seeds=self.cv_seeds,
            block=int(seed),
            unlabelled=pool,
        )
        if fitted.scope is None:
            from deni.artifact import scope_of

            fitted.scope = scope_of(fitted.classifier(), named.texts)
        classifier = fitted.classifier()
        # All at once: a fit that fails leaves the one before as it was.
        self.classes_, self.fitted_, self.classifier_ = classes, fitted, classifier
        for name in ("cv_results_", "cv_predict_proba_"):
            self.__dict__.pop(name, None)
        if fitted.out_of_fold is not None:
            found, votes = fitted.added["cross_validation"], fitted.out_of_fold.outputs["vote"].astype(np.float64)
            self.cv_results_ = {name: found[name] for name in ("metric", "score", "low", "high")}
            self.cv_results_["test_score"] = np.concatenate(found["by_fold"])
            self.cv_predict_proba_ = np.exp(votes).mean(0)
        return self

    def _classes(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The classes, and of each label its class."""
        task = find_task(self.task)
        if not task.one_class:
            known = " or ".join(name for name, each in TASKS.items() if each.one_class)
            raise InputError(f"task {self.task} gives a text not exactly one class: choose {known}. {_OTHERS}")
        if self.label_order is not None and not task.ordered:
            raise InputError(f"label_order is not for the task {self.task}: omit it")
        if self.label_order is None:
            if task.ordered and labels.dtype.kind not in "biuf":
                raise InputError(f"task {self.task} needs the order of the classes of y: give label_order")
            return np.unique(labels, return_inverse=True)
        classes = as_labels(list(self.label_order))
        if len(np.unique(classes)) < len(classes):
            raise InputError("label_order names a class twice: name each once")
        sorter = classes.argsort()
        at = np.minimum(np.searchsorted(classes, labels, sorter=sorter), len(classes) - 1)
        numbers = sorter[at]
        if (wrong := np.flatnonzero(classes[numbers] != labels)).size:
            raise InputError(f"y[{wrong[0]}] is {short(labels[wrong[0]].item())}, which is not in label_order: add it")
        return classes, numbers

    def _weights(self, sample_weight: Any, labels: np.ndarray) -> tuple[np.ndarray | None, bool]:
        """How much each text counts, None for all alike; and whether the recipe balances the classes.

        Raises:
            InputError: what is no weight of a text or class.
        """
        weights = None if sample_weight is None else as_weights(sample_weight, len(labels))
        if self.class_weight is None:
            return weights, False
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            if find_task(self.task).class_weights:
                return weights, True
        elif not isinstance(self.class_weight, Mapping):
            raise InputError(f"class_weight is {short(self.class_weight)}: give a dictionary, balanced, or None")
        try:
            of_class = compute_sample_weight(self.class_weight, labels)
        except ValueError as error:
            raise InputError(f"class_weight does not fit y: {error}") from error
        of_class = as_weights(of_class, len(labels), "class_weight")
        return of_class if weights is None else weights * of_class, False

    def _texts(self, X: Any, name: str = "X") -> list[Any]:
        return as_pairs(X, name) if self.pairs == "bi" else as_texts(X, name)

    classes_: np.ndarray
    fitted_: FineTuneResult
    classifier_: Classifier
    cv_results_: dict[str, Any]
    cv_predict_proba_: np.ndarray

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Log probabilities in the order of `classes_`: `(N, C)`."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.predict_log_probabilities(self._texts(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities in the order of `classes_`: `(N, C)`; rows sum to 1."""
        probabilities = np.exp(self.predict_log_proba(X).astype(np.float64))
        return probabilities / probabilities.sum(1, keepdims=True)

    def decision_function(self, X: Any) -> np.ndarray:
        """Of two classes the log odds of the second, `(N,)`; of more the log probabilities, `(N, C)`.

        The class of the highest value, or of positive log odds the second, is what `predict` gives.
        """
        values = self.predict_log_proba(X).astype(np.float64)
        return values[:, 1] - values[:, 0] if values.shape[1] == 2 else values

    def predict(self, X: Any) -> np.ndarray:
        """The label of each text, `(N,)`."""
        chosen = self.predict_log_proba(X).argmax(1)
        return self.classes_[chosen]

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the trained model as an artifact, as `deni train` does: `deni.load` and `deni predict` read it.

        There labels are texts: `1` for the class 1.

        Args:
            folder: must not exist, unless `overwrite`.

        Raises:
            InputError: the folder exists, or cannot be written.
        """
        check_is_fitted(self, "classifier_")
        from deni import artifact

        names = [str(label) for label in self.classes_.tolist()]
        files = {}
        if (found := self.classifier_.out_of_fold) is not None:
            files[artifact.OUT_OF_FOLD] = artifact.as_bytes(dataclasses.replace(found, labels=names))
        return self._write(Path(folder), names, overwrite, True, files)

    def _write(self, folder: Path, labels: list[str], overwrite: bool, kept: bool, files: Mapping[str, bytes]) -> Path:
        """Write the artifact; see `deni.artifact.save`."""
        from deni import artifact

        classifier, fitted = self.classifier_, getattr(self, "fitted_", None)
        scope = {} if classifier.labeled is None else {artifact.SCOPE: classifier.labeled.as_bytes()}
        return artifact.save(
            folder,
            population=classifier.population,
            tokenizer=classifier.tokenizer,
            labels=labels,
            info={**(classifier.info if fitted is None else fitted.info()), "labels": labels},
            overwrite=overwrite,
            kept=kept,
            voters=classifier.voters,
            extra_files={**scope, **files},
        )

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the trained population as the bytes of its artifact."""
        state = dict(super().__getstate__())
        state.pop("fitted_", None)
        classifier = state.pop("classifier_", None)
        if classifier is not None:
            with tempfile.TemporaryDirectory() as folder:
                self._write(Path(folder, "model"), classifier.labels, False, False, {})
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


def as_texts(X: Any, name: str = "X") -> list[str]:
    """Texts from a list, array, Series or a table with one column.

    Raises:
        InputError: what is not a text, with its index.
    """
    if isinstance(X, str):
        raise InputError(f"{name} must be a list of texts, not one text: put it into a list")
    if hasattr(X, "__array__"):
        X = np.asarray(X)
    if isinstance(X, np.ndarray):
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise InputError(f"{name} must be a list of texts, not an array of shape {X.shape}")
    if not isinstance(X, Sequence | np.ndarray):
        raise InputError(f"{name} must be a list of texts, not {type(X).__name__}")
    for at, text in enumerate(X):
        if why := why_no_text(text):
            raise InputError(f"{name}[{at}] is {short(text)}: {why}")
    if len(X) == 0:
        raise InputError(f"{name} has no texts")
    return [str(text) for text in X]


def as_pairs(X: Any, name: str = "X") -> list[tuple[str, str]]:
    """Pairs of texts from a list of pairs, an array `(N, 2)` or a table with two columns.

    Raises:
        InputError: what is not a pair of texts, with its index.

    >>> as_pairs([["a", "b"], ("c", "d")])
    [('a', 'b'), ('c', 'd')]
    """
    if hasattr(X, "__array__"):
        X = np.asarray(X).tolist()
    if not isinstance(X, Sequence) or isinstance(X, str):
        raise InputError(f"{name} must be a list of pairs of texts, not {type(X).__name__}")
    for at, pair in enumerate(X):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InputError(f"{name}[{at}] is {short(pair)}, not a pair: pairs='bi' reads (text, text)")
        if why := why_no_text(pair[0]) or why_no_text(pair[1]):
            raise InputError(f"{name}[{at}] is {short(pair)}: {why}")
    if len(X) == 0:
        raise InputError(f"{name} has no texts")
    return [(str(first), str(second)) for first, second in X]


def as_weights(sample_weight: Any, count: int, name: str = "sample_weight") -> np.ndarray:
    """A weight for each of so many texts, `(N,)`.

    Raises:
        InputError: not one for each, what is no finite number of at least 0, or all are 0.

    >>> as_weights([1, 2.5], 2)
    array([1. , 2.5])
    """
    try:
        weights = np.array(sample_weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, not {short(sample_weight)}") from None
    if weights.shape != (count,):
        raise InputError(f"{name} has shape {weights.shape}, not ({count},): give one weight for each text")
    if (wrong := np.flatnonzero(~np.isfinite(weights) | (weights < 0))).size:
        raise InputError(f"{name}[{wrong[0]}] is {weights[wrong[0]]}: give a finite number of at least 0")
    if not weights.any():
        raise InputError(f"{name} is zero for every text, so nothing is learned: give some text a weight")
    return weights


def as_labels(y: Any) -> np.ndarray:
    """Labels of one kind, `(N,)`: all strings, all numbers or all booleans.

    Raises:
        InputError: a label that is missing or of another kind than the first, with its index.

    >>> as_labels(["b", "a"])
    array(['b', 'a'], dtype='<U1')
    """
    if y is None:
        raise InputError("requires y to be passed, but the target y is None")  # the words that scikit-learn asks for
    if not hasattr(y, "__array__"):
        if isinstance(y, str) or not isinstance(y, Sequence):
            raise InputError(f"y must be a list of labels, not {type(y).__name__}")
        y = np.fromiter(y, dtype=object, count=len(y))  # NumPy alone would make [1, "a"] strings
    try:
        given = column_or_1d(np.asarray(y), warn=True)
    except ValueError as error:
        raise InputError(f"{error} {_OTHERS}") from error
    labels = [label.item() if isinstance(label, np.generic) else label for label in given.tolist()]
    for at, label in enumerate(labels):
        if not isinstance(label, str | bool | float | int):
            why = "give a string or a number"
            if label is None or label is pd.NA or label is pd.NaT:
                why = _FILL
            elif isinstance(label, list | tuple | set | frozenset | np.ndarray):
                why = _OTHERS
            raise InputError(f"y[{at}] is {short(label)}: {why}")
        if label != label:
            raise InputError(f"y[{at}] is NaN: {_FILL}")
        if isinstance(label, float) and math.isinf(label):
            raise InputError(f"y[{at}] is inf: {_FILL}")
        if _kind(label) != _kind(labels[0]):
            raise InputError(
                f"y[{at}] is {short(label)} but y[0] is {short(labels[0])}: make all labels strings or all numbers"
            )
    result = np.asarray(labels) if given.dtype == object else given
    try:
        check_classification_targets(result)
    except ValueError as error:
        raise InputError(f"{error} {_OTHERS}") from error
    return result


_OTHERS = (
    "DeniClassifier gives a text one label; for several, for numbers or for labels of words use deni train --task, or "
    "deni.finetune.fine_tune"
)
_FILL = "give every text a label or drop it"


def _kind(label: str | bool | float) -> type:
    return type(label) if isinstance(label, str | bool) else float
