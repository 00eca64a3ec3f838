"""C by cross-validation is what scikit-learn's grid search finds."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict

from deni.errors import SettingError
from deni.strategies.linear_probe import fit
from deni.tasks import find_task
from deni.tasks.cross_validation import centered_sd, choose_c, folds, out_of_fold

GRID = [0.001, 0.03, 0.3, 3.0, 100.0]


def blobs(classes=3, count=90, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centers = draw.normal(size=(classes, 6))
    return centers[labels] + draw.normal(0, 1.5, (count, 6)), labels


def chosen(x, labels, task="single_label", weight=None, outputs=3):
    kind = find_task(task)
    return choose_c(
        lambda features, own, c: kind.fit_output_layer(features, own, outputs, c, True, weight),
        x,
        labels,
        kind,
        GRID,
        weight,
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_classes(classes):
    x, labels = blobs(classes)
    search = GridSearchCV(
        LogisticRegression(max_iter=1000), {"C": GRID}, scoring="neg_log_loss", cv=StratifiedKFold(5)
    ).fit(x, labels)
    found = chosen(x, labels, outputs=classes)
    assert found.c == search.best_params_["C"] != GRID[0]
    np.testing.assert_allclose(found.losses, -search.cv_results_["mean_test_score"], atol=1e-6)
    expected = cross_val_predict(
        LogisticRegression(max_iter=1000, C=found.c), x, labels, cv=StratifiedKFold(5), method="predict_proba"
    )
    odds = np.exp(found.logits)
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), expected, atol=1e-6)


def test_classes_that_count_differently():
    x, labels = blobs(2)
    labels = np.where(np.arange(90) % 9, 0, labels)
    weight = np.array([1.0, 8.0])
    expected = []
    for c in GRID:
        outputs = np.empty((90, 2))
        for seen, left in StratifiedKFold(5).split(x, labels):
            counts = weight[labels[seen]]
            model = LogisticRegression(C=c, max_iter=1000)
            model.fit(x[seen], labels[seen], sample_weight=counts / counts.mean())
            outputs[left] = model.predict_proba(x[left])
        expected.append(log_loss(labels, outputs, sample_weight=weight[labels]))
    found = chosen(x, labels, weight=weight, outputs=2)
    np.testing.assert_allclose(found.losses, expected, atol=1e-6)
    assert not np.allclose(found.losses, chosen(x, labels, outputs=2).losses, atol=1e-2)


def test_several_labels():
    x, labels = blobs(3)
    several = np.stack([labels == 0, labels != 2], 1).astype(float)
    expected = []
    for c in GRID:
        total = 0.0
        for left in range(5):
            out = np.arange(90) % 5 == left
            for label in range(2):
                model = LogisticRegression(C=c, max_iter=1000).fit(x[~out], several[~out, label])
                total += log_loss(several[out, label], model.predict_proba(x[out])[:, 1], normalize=False)
        expected.append(total / 180)
    np.testing.assert_allclose(chosen(x, several, "multi_label", outputs=2).losses, expected, atol=1e-6)


def test_numbers():
    x, labels = blobs(3)
    numbers = x[:, 0] + 0.1 * labels
    cv = [(np.flatnonzero(np.arange(90) % 5 != at), np.flatnonzero(np.arange(90) % 5 == at)) for at in range(5)]
    grid = {"alpha": [1 / c for c in GRID]}
    search = GridSearchCV(Ridge(), grid, scoring="neg_mean_squared_error", cv=cv).fit(x, numbers)
    found = chosen(x, numbers, "regression", outputs=1)
    np.testing.assert_allclose(found.losses, -search.cv_results_["mean_test_score"], atol=1e-10)


def test_a_class_that_a_fold_lacks_costs_what_the_fit_without_it_says():
    x, labels = blobs(3, 30)
    labels[labels == 2] = 1
    labels[7] = 2  # one text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = chosen(x, labels)
    assert np.isfinite(found.losses).all()
    parts = folds(labels)
    assert sorted(np.concatenate([left for _, left in parts])) == list(range(30))
    assert len(parts) == 5
    assert len(folds(np.array([0, 0, 1, 1, 2, 2]))) == 2


def test_without_texts_to_leave_out_it_is_refused():
    with pytest.raises(SettingError, match="no class has two: give C a number in place of cv"):
        folds(np.arange(4))


def test_left_out_texts_are_predicted_by_the_others():
    x, labels = blobs(3)
    parts = folds(labels)
    logits = out_of_fold(lambda features, own, c: fit(features, own, 3, c), x, labels, parts, 0.1)
    for seen, left in parts:
        weight, bias = fit(x[seen], labels[seen], 3, 0.1)
        np.testing.assert_array_equal(logits[left], x[left] @ weight.T + bias)


def test_the_standard_deviation_is_that_of_centered_logits():
    logits = np.random.default_rng(0).normal(size=(20, 4)) + np.arange(4) + np.arange(20)[:, None]
    of_classes = (logits - logits.mean(1, keepdims=True)).std()
    of_labels = np.sqrt(logits.var(0).mean())
    assert centered_sd(logits, find_task("single_label")) == pytest.approx(of_classes)
    assert centered_sd(logits, find_task("multi_label")) == pytest.approx(of_labels)
