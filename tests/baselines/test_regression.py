"""The regressions of baselines, against pipelines of scikit-learn."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.multiclass import OneVsRestClassifier

from deni.baselines import regression
from deni.baselines.regression import GRID, Span, cross_validated, outputs_of
from deni.tasks import find_task


def texts_of(classes=3, rows=60, columns=90, seed=0):
    """Features with more columns than rows, and noisy classes."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    features = generator.normal(size=(rows, columns)) + 0.35 * np.eye(columns)[labels] * np.sqrt(columns)
    labels[::7] = (labels[::7] + 1) % classes  # wrong ones, so that no C fits all
    return features / np.sqrt(columns), labels


def identity(inputs):
    return lambda given: given


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_are_those_of_a_grid_search_of_scikit_learn(classes, sparse):
    features, labels = texts_of(classes)
    other, _ = texts_of(classes, seed=1)
    search = GridSearchCV(
        LogisticRegression(max_iter=1000), {"C": list(GRID)}, scoring="neg_log_loss", cv=StratifiedKFold(5)
    ).fit(features, labels)
    convert = csr_array if sparse else np.asarray
    fitted = cross_validated(identity, convert(features), labels, find_task("single_label"), classes)
    assert fitted.c == pytest.approx(search.best_params_["C"])
    assert GRID[0] < fitted.c < GRID[-1]  # else the test would not tell one search from another
    found = outputs_of(find_task("single_label"), fitted.logits(convert(other)))
    assert np.allclose(np.exp(found), search.predict_proba(other), atol=2e-3)


def test_left_out_logits_are_those_of_fits_of_scikit_learn_that_have_not_seen_the_text():
    features, labels = texts_of(3)
    fitted = cross_validated(identity, features, labels, find_task("single_label"), 3)
    plain = LogisticRegression(C=fitted.c, max_iter=1000)
    expected = cross_val_predict(plain, features, labels, cv=StratifiedKFold(5), method="predict_proba")
    assert np.allclose(np.exp(outputs_of(find_task("single_label"), fitted.left_out)), expected, atol=2e-3)
    assert cross_validated(identity, features[:3], [0, 1, 2], find_task("single_label"), 3).left_out is None


def test_classes_that_count_alike_are_weighted_as_by_scikit_learn():
    features, labels = texts_of(2)
    rows = np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:8]]
    plain = LogisticRegression(C=1.0, max_iter=1000, class_weight="balanced").fit(features[rows], labels[rows])
    task = find_task("single_label")
    fitted = cross_validated(identity, features[rows], labels[rows], task, 2, balanced=True, grid=[1.0])
    found = np.exp(outputs_of(task, fitted.logits(features)))
    assert np.allclose(found, plain.predict_proba(features), atol=2e-3)
    unweighted = cross_validated(identity, features[rows], labels[rows], task, 2, grid=[1.0])
    assert np.abs(np.exp(outputs_of(task, unweighted.logits(features))) - found).max() > 0.05


def test_numbers_are_those_of_ridge_regression():
    features, labels = texts_of(3)
    numbers = labels + 0.1 * np.arange(60)
    fitted = cross_validated(identity, features, numbers.tolist(), find_task("regression"), 1)
    parts = [(np.flatnonzero(np.arange(60) % 5 != at), np.flatnonzero(np.arange(60) % 5 == at)) for at in range(5)]
    errors = {
        c: -cross_val_score(Ridge(1 / c), features, numbers, cv=parts, scoring="neg_mean_squared_error").mean()
        for c in GRID
    }
    assert fitted.c == min(errors, key=errors.get)
    plain = Ridge(1 / fitted.c).fit(features, numbers)
    assert np.allclose(fitted.logits(features)[:, 0], plain.predict(features))


def test_labels_are_those_of_one_regression_each():
    features, labels = texts_of(3)
    several = np.stack([labels == 0, labels != 1], 1).astype(float)
    fitted = cross_validated(identity, features, several, find_task("multi_label"), 2, grid=[1.0])
    plain = OneVsRestClassifier(LogisticRegression(C=1.0, max_iter=1000)).fit(features, several)
    assert np.allclose(1 / (1 + np.exp(-fitted.logits(features))), plain.predict_proba(features), atol=2e-3)


def test_features_are_learned_from_the_texts_of_a_fold_alone():
    features, labels = texts_of(2)
    asked = []

    def fit_transform(inputs):
        asked.append(len(inputs))
        return lambda given: given

    cross_validated(fit_transform, features, labels, find_task("single_label"), 2)
    assert asked == [48] * 5 + [60]


def test_a_span_has_the_products_of_its_rows_and_of_others(monkeypatch):
    features, _ = texts_of()
    other, _ = texts_of(seed=1)
    span = Span(features)
    assert np.allclose(span(features) @ span(features).T, features @ features.T)
    assert np.allclose(span(other) @ span(features).T, other @ features.T)
    weight = np.random.default_rng(0).normal(size=(2, span(features).shape[1]))
    assert np.allclose(other @ span.weight(weight).T, span(other) @ weight.T)
    monkeypatch.setattr(regression, "MOST_ROWS", 10)
    assert Span(features)(other) is other


def test_too_few_texts_for_folds_get_a_regression_all_the_same():
    task = find_task("single_label")
    features, labels = np.eye(3), np.arange(3)
    assert cross_validated(identity, features, labels, task, 3).c == 1.0
    fitted = cross_validated(identity, np.eye(3)[[0, 0, 1]], np.array([0, 0, 1]), task, 2)
    assert fitted.logits(np.eye(3)[:2]).argmax(1).tolist() == [0, 1]
