"""What a member-step buys, in numbers that can be computed by hand."""

import numpy as np
import pytest

from deni.errors import InputError
from deni.measures import gain_per_step, pareto_front

COST = [1250, 4625, 12500, 1250, 1000]  # default, deni, ensemble, as dear as default, cheaper
MEAN = [0.80, 0.83, 0.84, 0.81, 0.85]
SD = [0.04, 0.02, 0.03, 0.01, 0.05]


def test_gain_and_drop_are_per_extra_step_and_nothing_is_divided_by_none():
    found = gain_per_step(COST, MEAN, SD)
    assert found.gain == pytest.approx([np.nan, 0.03 / 3375, 0.04 / 11250, np.nan, np.nan], nan_ok=True)
    assert found.drop == pytest.approx([np.nan, 0.02 / 3375, 0.01 / 11250, np.nan, np.nan], nan_ok=True)


def test_another_baseline_gives_other_gains():
    found = gain_per_step(COST, MEAN, SD, baseline=1)
    assert found.gain[2] == pytest.approx(0.01 / 7875)
    assert found.drop[2] == pytest.approx(-0.01 / 7875)
    assert np.isnan(np.delete(found.gain, 2)).all()


@pytest.mark.parametrize("lower_is_better", [False, True])
def test_the_front_has_what_no_other_strategy_beats(lower_is_better):
    generator = np.random.default_rng(0)
    cost, value = generator.integers(6, size=30), generator.integers(6, size=30)  # with ties
    good = -value if lower_is_better else value
    for place, kept in enumerate(pareto_front(cost, value, lower_is_better=lower_is_better)):
        beaten = any(
            cost[other] <= cost[place]
            and good[other] >= good[place]
            and (cost[other] < cost[place] or good[other] > good[place])
            for other in range(30)
        )
        assert kept != beaten


def test_equal_strategies_are_on_the_front_together():
    assert pareto_front([1, 1, 2], [0.8, 0.8, 0.8]).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gain_per_step([1, 2], [0.1, 0.2], [0.1]), r"\(2,\).*\(1,\)"),
        (lambda: gain_per_step([1, 2], [0.1, 0.2], [0.1, 0.1], baseline=2), "baseline must be one of the 2"),
        (lambda: gain_per_step([0, 2], [0.1, 0.2], [0.1, 0.1]), "cost must be above 0"),
        (lambda: pareto_front([1, 2], [0.1, np.nan]), "NaN"),
        (lambda: pareto_front([[1, 2]], [[0.1, 0.2]]), r"\(1, 2\)"),
    ],
)
def test_wrong_arrays_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
