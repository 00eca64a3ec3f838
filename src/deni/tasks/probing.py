"""The regularized regressions of scikit-learn in place of an output layer; see `Task.fit_output_layer`."""

from __future__ import annotations

import math

import numpy as np

from deni.errors import SettingError

MOST_ITERATIONS = 1000


def on_numbers(
    features: np.ndarray,
    labels: np.ndarray,
    outputs: int,
    c: float,
    intercept: bool,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression."""
    from sklearn.linear_model import Ridge

    weight, bias = _zeros(features, outputs)
    ridge = Ridge(alpha=1 / c, fit_intercept=intercept)
    ridge.fit(features, labels.reshape(len(features), outputs), sample_weight=_relative(rows))
    weight[:], bias[:] = ridge.coef_, ridge.intercept_
    return weight, bias


def on_labels(
    features: np.ndarray,
    labels: np.ndarray,
    outputs: int,
    c: float,
    intercept: bool,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A logistic regression of each label.

    One that all texts have, or none, gets weights 0 and its log odds, one text of either kind added.
    """
    from sklearn.linear_model import LogisticRegression

    weight, bias = _zeros(features, outputs)
    logistic = LogisticRegression(C=c, fit_intercept=intercept, max_iter=MOST_ITERATIONS)
    for label, here in enumerate(labels.T > 0.5):
        if 0 < here.sum() < len(here):
            logistic.fit(features, here, sample_weight=_relative(rows))
            weight[label], bias[label] = logistic.coef_[0], logistic.intercept_[0]
        elif intercept:
            bias[label] = math.log((here.sum() + 1) / ((~here).sum() + 1))
    return weight, bias


def on_classes(
    features: np.ndarray,
    labels: np.ndarray,
    outputs: int,
    c: float,
    intercept: bool,
    weight: np.ndarray | None = None,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression; a class without a text gets weights 0 and the lowest bias."""
    from sklearn.linear_model import LogisticRegression

    if labels.ndim != 1 or labels.dtype.kind != "i":
        raise SettingError(
            "an output layer is fitted to one class for each text, or give the model a config of another task"
        )
    present = np.unique(labels)
    if len(present) < 2:
        raise SettingError("an output layer is fitted to texts of at least two classes, and all have the same one")
    counts = _relative(None if weight is None else weight[labels])
    if rows is not None:
        counts = _relative(rows if counts is None else rows * counts)
    coefs, bias = _zeros(features, outputs)
    logistic = LogisticRegression(C=c, fit_intercept=intercept, max_iter=MOST_ITERATIONS)
    logistic.fit(features, labels, sample_weight=counts)
    coefficients, intercepts = logistic.coef_, logistic.intercept_
    if len(present) == 2:  # scikit-learn has one row for two classes: the difference of their logits
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    bias[:] = intercepts.min()
    coefs[present], bias[present] = coefficients, intercepts
    return coefs, bias


def _relative(counts: np.ndarray | None) -> np.ndarray | None:
    """How much each row counts, 1 on average: C keeps its meaning."""
    return None if counts is None else counts / counts.mean()


def _zeros(features: np.ndarray, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((outputs, features.shape[1])), np.zeros(outputs)
