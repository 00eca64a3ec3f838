"""Calibration: literal formulas, scikit-learn's losses, and a temperature that is found again."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import brier_score_loss, log_loss

from deni.errors import InputError
from deni.measures import (
    brier_score,
    calibration_scores,
    cross_fit_temperature,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    temperature_scaling,
)
from deni.measures.calibration import fit_temperature, temper


def drawn(examples, classes, seed, temperature=1.0):
    """Log probabilities whose logits were divided by the temperature, and classes drawn from the right ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(examples, classes)) * 2
    right = np.exp(log_softmax(logits, axis=-1))
    gold = (right.cumsum(1) < generator.random((examples, 1))).sum(1).clip(0, classes - 1)
    return log_softmax(logits / temperature, axis=-1), gold


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_calibration_error_is_its_formula(bins):
    array, gold = drawn(500, 4, seed=0)
    confidence, right = np.exp(array).max(1), array.argmax(1) == gold
    want = 0.0
    for each in range(bins):
        inside = (confidence > each / bins) & (confidence <= (each + 1) / bins)
        if inside.any():
            want += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert expected_calibration_error(array, gold, bins) == pytest.approx(want)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    array = np.log([[0.7, 0.3], [0.6, 0.4], [0.5, 0.5]])
    third = pytest.approx(1 / 3)
    assert reliability(array, [0, 0, 0], bins=10).share.tolist() == [0, 0, 0, 0, third, third, third, 0, 0, 0]


def test_certain_answers_are_in_the_last_bin():
    with np.errstate(divide="ignore"):
        array = np.log(np.eye(2)[[0, 1]])
    found = reliability(array, [0, 0], bins=5)
    assert found.share.tolist() == [0, 0, 0, 0, 1]
    assert found.accuracy[-1] == 0.5
    assert negative_log_likelihood(array, [0, 0]) == np.inf


def test_brier_and_likelihood_are_scikit_learns():
    array, gold = drawn(300, 3, seed=1)
    assert negative_log_likelihood(array, gold) == pytest.approx(log_loss(gold, np.exp(array)))
    assert brier_score(array, gold) == pytest.approx(((np.exp(array) - np.eye(3)[gold]) ** 2).sum(1).mean())
    two, gold = drawn(300, 2, seed=2)
    assert brier_score(two, gold) / 2 == pytest.approx(brier_score_loss(gold, np.exp(two)[:, 1]))


def test_seeds_are_computed_side_by_side():
    array, gold = drawn(200, 3, seed=3)
    other = temper(array, 3.0)
    together = calibration_scores(np.stack([array, other]), gold)
    for one, two, both in zip(calibration_scores(array, gold), calibration_scores(other, gold), together, strict=True):
        assert both == pytest.approx([one, two])
    assert reliability(np.stack([array, other]), gold).share.shape == (2, 15)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_temperature_of_the_logits_is_found_again(temperature):
    """Logits divided by t are right again when divided by 1 / t."""
    array, gold = drawn(20_000, 3, seed=4, temperature=temperature)
    assert fit_temperature(array, gold) == pytest.approx(1 / temperature, rel=0.05)


def test_the_fitted_temperature_has_the_lowest_loss():
    array, gold = drawn(300, 3, seed=5, temperature=0.3)
    best = fit_temperature(array, gold)
    losses = [negative_log_likelihood(temper(array, best * by), gold) for by in (0.98, 1.0, 1.02)]
    assert losses[1] < min(losses[0], losses[2])


def test_a_perfect_development_set_stops_at_the_lowest_temperature():
    array = np.log([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(array, [0, 1]) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(array, [1, 0]) == pytest.approx(20, rel=1e-3)


def test_scaling_helps_the_overconfident_and_changes_no_prediction():
    array, gold = drawn(4000, 4, seed=6, temperature=0.3)
    test, development = slice(0, 2000), slice(2000, None)
    scaled = temperature_scaling(array[test], gold[test], array[development], gold[development])
    assert scaled.temperature == fit_temperature(array[development], gold[development])
    assert scaled.before == pytest.approx(calibration_scores(array[test], gold[test]))
    assert scaled.after.nll < scaled.before.nll
    assert scaled.after.brier < scaled.before.brier
    assert scaled.after.ece < 0.03 < 0.1 < scaled.before.ece
    after = temper(array[test], scaled.temperature)
    assert (after.argmax(1) == array[test].argmax(1)).all()
    assert scaled.after == pytest.approx(calibration_scores(after, gold[test]))


def test_a_temperature_divides_the_logits():
    logits = np.random.default_rng(0).normal(size=(5, 3))
    array = log_softmax(logits, axis=-1)
    assert temper(array, 2.5) == pytest.approx(log_softmax(logits / 2.5, axis=-1))
    assert temper(array, 1.0) == pytest.approx(array)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: brier_score(np.log([[0.5, 0.5]]), [0, 1]), r"\(1, 2\).*\(2,\)"),
        (lambda: brier_score(np.log([[0.5, 0.5]]), [2]), "the class 2.*2 classes"),
        (lambda: brier_score([[0.5, 0.5]], [0]), "log-softmax"),
        (lambda: brier_score([[1e9, 0.5]], [0]), "log-softmax"),
        (lambda: brier_score([[np.nan, 0.0]], [0]), "1 NaN"),
        (lambda: expected_calibration_error(np.log([[0.5, 0.5]]), [0], bins=0), "bins must be at least 1"),
        (lambda: temper(np.log([[0.5, 0.5]]), 0.0), "temperature must be above 0"),
        (lambda: fit_temperature([[0.0, -np.inf]], [1]), "probability 0"),
        (lambda: fit_temperature(np.log(np.full((2, 3, 2), 0.5)), [0, 1, 0]), r"\(N C\).*\(2, 3, 2\)"),
    ],
)
def test_wrong_arrays_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_a_cross_fitted_temperature_is_that_of_the_other_folds():
    generator = np.random.default_rng(1)
    pairs = [drawn(300, 3, seed=7, temperature=each) for each in (0.3, 0.4)]
    array, gold = np.stack([each for each, _ in pairs]), pairs[0][1]
    folds = generator.integers(5, size=(2, 300))
    found = cross_fit_temperature(array, gold, folds)
    want = np.empty_like(array)
    for division in range(2):
        for fold in range(5):
            left_out = folds[division] == fold
            temperature = fit_temperature(array[division, ~left_out], gold[~left_out], 1)
            want[division, left_out] = log_softmax(array[division, left_out] / temperature, axis=-1)
    assert found.outputs == pytest.approx(want)
    assert found.before.nll == pytest.approx(np.mean([log_loss(gold, np.exp(each)) for each in array]))
    assert found.after.nll == pytest.approx(np.mean([log_loss(gold, np.exp(each)) for each in want]))
    assert found.after.nll < found.before.nll
    assert found.temperature == pytest.approx(2.8, abs=0.5)  # logits were divided by 0.3 and 0.4


def test_a_doubtful_text_counts_as_one_more_of_each_class():
    """The fit is that of soft labels on the mean log likelihood, minimized on a grid."""
    array, gold = drawn(60, 3, seed=8, temperature=0.5)
    grid = np.geomspace(0.5, 8, 4001)

    def loss(temperature):
        scaled = log_softmax(array / temperature, axis=-1)
        return -scaled[np.arange(60), gold].sum() - 2 * scaled.mean()

    best = grid[np.argmin([loss(each) for each in grid])]
    assert fit_temperature(array, gold, doubtful=2) == pytest.approx(best, rel=2e-3)


def test_texts_without_an_error_do_not_make_a_model_certain():
    array = np.log([[0.9, 0.1], [0.2, 0.8]] * 30)
    gold = [0, 1] * 30
    assert fit_temperature(array, gold) == pytest.approx(0.05, rel=1e-3)
    assert 0.2 < fit_temperature(array, gold, doubtful=1) < 1
    assert np.exp(temper(array, fit_temperature(array, gold, doubtful=1))).max() < 0.9999


def test_one_fold_cannot_be_cross_fitted():
    array, gold = drawn(6, 2, seed=0)
    with pytest.raises(InputError, match="two or more folds"):
        cross_fit_temperature(array[None], gold, np.zeros((1, 6), int))
    with pytest.raises(InputError, match="folds"):
        cross_fit_temperature(array[None], gold, np.zeros(6, int))
