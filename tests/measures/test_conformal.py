"""Conformal prediction against crepes, MAPIE, a loop, and its promise in simulation."""

import math
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from deni.errors import InputError
from deni.measures import (
    intervals,
    mean_p_values,
    p_values,
    prediction_sets,
    probability_scores,
    texts_needed,
    too_few,
)

with warnings.catch_warnings():  # both change the filters of a process
    from crepes import ConformalClassifier, ConformalRegressor
    from mapie.classification import SplitConformalClassifier


@pytest.fixture
def draw():
    return np.random.default_rng(0)


def probabilities(draw, texts, classes=4):
    return draw.dirichlet(np.full(classes, 0.5), texts)


class Known(ClassifierMixin, BaseEstimator):
    """An estimator whose X are its probabilities."""

    def fit(self, X, y):
        self.classes_ = np.arange(4)
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(1)


@pytest.mark.parametrize("texts", [1, 9, 50])
def test_p_values_are_those_of_crepes(draw, texts):
    calibration, scores = draw.random(texts).round(2), draw.random((30, 4)).round(2)  # with ties
    reference = ConformalClassifier().fit(calibration).predict_p(scores, smoothing=False)
    np.testing.assert_allclose(p_values(calibration, scores), reference)


@pytest.mark.parametrize("level", [0.6, 0.8, 0.9, 0.95])
def test_sets_are_those_of_mapie_but_never_empty(draw, level):
    known, new = probabilities(draw, 60), probabilities(draw, 40)
    gold = np.array([draw.choice(4, p=row) for row in known])
    reference = SplitConformalClassifier(Known().fit(known, gold), confidence_level=level, conformity_score="lac")
    _, expected = reference.conformalize(known, gold).predict_set(new)
    expected = expected[..., 0]
    expected[np.arange(40), new.argmax(1)] = True
    scores = probability_scores(np.log(known))[np.arange(60), gold]
    found = prediction_sets(p_values(scores, probability_scores(np.log(new))), level)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("texts", "level"), [(10, 0.9), (30, 0.8), (100, 0.95)])
def test_intervals_of_one_model_are_those_of_crepes(draw, texts, level):
    residuals, predictions = draw.normal(size=texts), draw.normal(size=20) * 1000
    reference = ConformalRegressor().fit(residuals).predict_int(predictions, confidence=level)
    low, high = intervals([np.abs(residuals)], [predictions], level)
    np.testing.assert_allclose(np.stack([low, high], 1), reference)


def test_the_mean_p_value_counts_the_texts_of_each_fold(draw):
    folds, scores = [draw.random(size).round(1) for size in (9, 10, 3)], draw.random((3, 5, 2)).round(1)
    for at in np.ndindex(5, 2):
        each = [
            (1 + sum(one >= own[at] for one in fold)) / (len(fold) + 1) for fold, own in zip(folds, scores, strict=True)
        ]
        assert mean_p_values(folds, scores)[at] == pytest.approx(sum(each) / 3)


def test_intervals_of_folds_end_at_the_last_number_that_fits(draw):
    """Against a search in steps of 0.001."""
    residuals, predictions = (
        [np.abs(draw.normal(size=12)).round(3) for _ in range(3)],
        draw.normal(size=(3, 4)).round(3),
    )
    low, high = intervals(residuals, predictions, 0.8)
    grid = np.arange(-6000, 6001) / 1000
    for text in range(4):
        each = [
            (1 + (fold[:, None] >= np.abs(grid - own) - 1e-9).sum(0)) / 13
            for fold, own in zip(residuals, predictions[:, text], strict=True)
        ]
        inside = grid[np.mean(each, 0) > 0.2 + 1e-9]
        assert (low[text], high[text]) == pytest.approx((inside[0], inside[-1]))


def test_models_that_contradict_each_other_give_an_interval_all_the_same():
    low, high = intervals([[0.1, 0.2]] * 3, [[0.0], [100.0], [200.0]], 0.55)
    assert -0.2 <= low[0] <= high[0] <= 200.2


def test_many_texts_are_looked_at_in_parts(draw, monkeypatch):
    residuals, predictions = [draw.random(9), draw.random(9)], draw.normal(size=(2, 25))
    whole = intervals(residuals, predictions, 0.6)
    monkeypatch.setattr("deni.measures.conformal._PART", 7)
    np.testing.assert_array_equal(intervals(residuals, predictions, 0.6), whole)


def test_split_sets_hold_the_truth_as_often_as_promised(draw):
    """The mean coverage of 400 draws of 39 calibration texts is 0.9 within its error, where no set is empty."""
    covered = []
    for _ in range(400):
        each = probabilities(draw, 139)
        gold = (each.cumsum(1) > draw.random((139, 1))).argmax(1)
        scores = probability_scores(np.log(each))
        own = scores[np.arange(139), gold]
        covered.append((p_values(own[:39], own[39:]) > 0.1 + 1e-9).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=4 * np.std(covered) / 20)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_sets_of_folds_hold_the_truth_as_often_as_promised(draw, level):
    """Nearest class means in 5 folds of 200 texts: about as often as asked for, a little more often than that."""
    covered = []
    for _ in range(25):
        gold = draw.integers(0, 3, 400)
        x = draw.normal(size=(400, 4)) + np.eye(4)[gold] * 1.5
        fold = np.arange(200) % 5
        calibrations, new = [], []
        for left in range(5):
            means = np.stack([x[:200][(fold != left) & (gold[:200] == c)].mean(0) for c in range(3)])
            logits = -((x[:, None] - means) ** 2).sum(-1)
            scores = probability_scores(logits - np.logaddexp.reduce(logits, 1)[:, None])
            calibrations.append(scores[:200][fold == left, gold[:200][fold == left]])
            new.append(scores[200:])
        sets = prediction_sets(mean_p_values(calibrations, new), level)
        covered.append(sets[np.arange(200), gold[200:]].mean())
    assert level < np.mean(covered) < level + 0.05


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_the_fewest_texts_are_those_of_the_rule(level):
    needed = texts_needed(level)
    fits = [n for n in range(1, 500) if math.ceil(round((n + 1) * level, 9)) <= n]
    assert needed == fits[0]
    assert not too_few([needed], level)
    assert needed == 1 or too_few([needed - 1], level)
    assert not too_few([needed] * 5, level)
    assert texts_needed(level, 5) == 5 * needed


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(InputError, match=r"an interval at 0.9 needs residuals of at least 9 texts, not 8"):
        intervals([np.ones(8)], [[0.0]], 0.9)
    with pytest.raises(InputError, match="residuals of 1 models, and predictions of 2"):
        intervals([np.ones(8)], [[0.0], [1.0]], 0.8)
    with pytest.raises(InputError, match="calibration scores of 1 models, and new ones of 2"):
        mean_p_values([[0.1]], [[0.1], [0.2]])
    with pytest.raises(InputError, match="level must be between 0 and 1, not 1"):
        prediction_sets([[0.5]], 1)
