import numpy as np
import pytest
from scipy import stats

from deni.errors import SettingError
from deni.measures.folds import over_folds


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
