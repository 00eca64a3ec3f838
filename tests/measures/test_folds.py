import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from deni.errors import SettingError
from deni.measures import macro_f1
from deni.measures.folds import of_delivered, over_folds, pseudo_values


def test_without_shared_texts_it_is_the_t_test_of_scipy():
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.1])
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert over_folds(differences, test_share=0) == pytest.approx((differences.mean(), *interval))


def test_the_correction_is_that_of_nadeau_and_bengio():
    differences = np.array([0.3, -0.1, 0.4, 0.2, 0.1])
    value, low, high = over_folds(differences, test_share=1 / 4)
    plain = over_folds(differences, test_share=0)
    assert (high - low) / (plain.high - plain.low) == pytest.approx(np.sqrt((1 / 5 + 1 / 4) / (1 / 5)))
    assert value == pytest.approx((low + high) / 2)


def test_equal_models_differ_by_nothing():
    assert over_folds(np.zeros(5), test_share=0.25) == (0, 0, 0)


def test_one_fold_has_no_interval():
    with pytest.raises(SettingError, match="two or more"):
        over_folds([0.1], test_share=0.25)


def test_pseudo_values_of_a_mean_are_the_means_of_the_folds():
    right, folds = np.arange(12.0), np.arange(12) % 3
    value, each = pseudo_values(lambda weights: weights @ right / weights.sum(1), folds)
    assert value == pytest.approx(right.mean())
    np.testing.assert_allclose(each, [right[folds == fold].mean() for fold in range(3)])


def test_pseudo_values_of_f1_are_those_of_the_jackknife():
    generator = np.random.default_rng(0)
    gold, chosen, folds = generator.integers(3, size=40), generator.integers(3, size=40), np.arange(40) % 4
    value, each = pseudo_values(lambda weights: macro_f1(chosen[None], gold, weights)[:, 0], folds)
    score = lambda rows: f1_score(gold[rows], chosen[rows], average="macro")  # noqa: E731
    assert value == pytest.approx(score(folds >= 0))
    np.testing.assert_allclose(each, [4 * value - 3 * score(folds != fold) for fold in range(4)])


def test_the_interval_of_the_delivered_model_is_the_corrected_one_widened():
    values = np.array([[0.7, 0.8, 0.9], [0.75, 0.8, 0.7]])
    plain = over_folds(values.ravel(), test_share=1 / 2)
    assert of_delivered(values, 1 / 2, widened=1.0) == pytest.approx((plain.low, plain.high))
    low, high = of_delivered(values, 1 / 2, widened=1.5)
    assert (high - low) / (plain.high - plain.low) == pytest.approx(1.5)
    # Six values, and the variance of their mean as Bouckaert and Frank (2004) have it.
    half = stats.t.ppf(0.975, 5) * np.sqrt((1 / 6 + 1 / 2) * values.var(ddof=1))
    assert plain.high - plain.value == pytest.approx(half)
