import math

import numpy as np
import pytest

from deni.errors import InputError
from deni.measures import configuration_sds, contributed_sd, importance, mitigated_sd, standard_deviation

# Three configurations of the other sources, four values of the investigated one.
GRID = [[10.0, 12.0, 14.0, 16.0], [20.0, 20.0, 20.0, 20.0], [31.0, 33.0, 31.0, 33.0]]
ROOT = math.sqrt(20 / 3), 0.0, math.sqrt(4 / 3)  # SDs of the rows, by hand: squared deviations 9 + 1 + 1 + 9, 0, 4 x 1


def test_the_sd_of_each_configuration_is_that_of_its_values():
    assert configuration_sds(GRID) == pytest.approx(ROOT, rel=1e-12)


def test_the_contributed_sd_is_the_mean_of_the_sds_of_the_configurations():
    assert contributed_sd(GRID) == pytest.approx(sum(ROOT) / 3, rel=1e-12)


def test_the_mitigated_sd_is_the_sd_of_the_means_of_the_configurations():
    # Means 13, 20, 32 are -26/3, -5/3 and 31/3 from their own: squares add up to 1662/9.
    assert mitigated_sd(GRID) == pytest.approx(math.sqrt(831 / 9), rel=1e-12)


def test_the_score_is_their_difference_in_sds_of_the_golden_model():
    found = importance(GRID, [1.0, 3.0, 5.0])
    assert found.golden == 2.0
    assert found.score == pytest.approx((found.contributed - found.mitigated) / 2, rel=1e-12)
    assert found.score < 0  # the configurations are far apart, the values are not


def test_configurations_and_values_change_places_with_the_answer():
    rows = np.array([[0.0, 4.0], [0.0, 4.0]])  # the value decides all
    assert importance(rows, [0.0, 4.0])[:2] == (pytest.approx(math.sqrt(8)), 0.0)
    assert importance(rows.T, [0.0, 4.0])[:2] == (0.0, pytest.approx(math.sqrt(8)))


def test_a_source_without_effect_contributes_exactly_nothing():
    scores = np.repeat([[0.1], [0.7], [1 / 3]], 7, axis=1)  # whose mean over seven is not exactly itself
    assert contributed_sd(scores) == 0.0
    assert mitigated_sd(scores) == pytest.approx(standard_deviation([0.1, 0.7, 1 / 3]))
    assert importance(scores, [0.1, 0.7]).score < 0


def test_equal_golden_runs_give_no_score():
    assert math.isnan(importance(GRID, [0.1] * 7).score)


@pytest.mark.parametrize("scores", [[[1.0, 2.0]], [[1.0], [2.0]], [1.0, 2.0], [[1.0, float("nan")], [1.0, 2.0]], [[]]])
def test_too_few_configurations_or_values_are_refused(scores):
    with pytest.raises(InputError):
        importance(scores, [1.0, 2.0])


def test_one_golden_run_is_refused():
    with pytest.raises(InputError, match="golden must have at least 2 seeds"):
        importance(GRID, [1.0])
