"""Ranks over many datasets: Demšar's table, and a rate of false differences that alpha bounds."""

import numpy as np
import pytest
from scipy import stats

from deni.errors import InputError
from deni.measures import critical_difference
from tests.helpers.rates import binomial_interval


@pytest.mark.parametrize(
    ("alpha", "strategies", "quantile"),
    [(0.05, 3, 2.343), (0.05, 4, 2.569), (0.05, 5, 2.728), (0.05, 10, 3.164), (0.1, 3, 2.052), (0.1, 10, 2.920)],
)
def test_the_quantiles_are_those_of_demsars_table(alpha, strategies, quantile):
    scores = np.random.default_rng(0).random((18, strategies))
    want = quantile * np.sqrt(strategies * (strategies + 1) / (6 * 18))
    assert critical_difference(scores, alpha=alpha).difference == pytest.approx(want, rel=5e-4)


def test_ranks_and_friedmans_test_are_scipys():
    scores = np.random.default_rng(1).integers(5, size=(20, 4)) / 10 + [0, 0.1, 0.1, 0.3]  # with ties
    found = critical_difference(scores)
    assert found.p_value == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    assert found.ranks == pytest.approx(stats.rankdata(-scores, axis=1).mean(0))
    assert found.ranks.argmin() == 3
    turned = critical_difference(-scores, lower_is_better=True)
    assert turned.ranks == pytest.approx(found.ranks)


def test_equal_strategies_rank_the_same():
    found = critical_difference(np.full((15, 3), 0.5))
    assert found.ranks.tolist() == [2, 2, 2]
    assert found.p_value == 1


def test_equal_strategies_are_rarely_further_apart_than_the_difference():
    ranks = np.random.default_rng(2).random((10_000, 20, 5)).argsort(-1).mean(1)  # (studies, strategies)
    limit = critical_difference(np.random.default_rng(3).random((20, 5))).difference
    least, most = binomial_interval(0.05, 10_000)
    assert least - 0.01 < (np.ptp(ranks, axis=1) > limit).mean() < most  # ranks are discrete: a little below


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((14, 4), "at least 15 datasets, not 14"),
        ((15, 2), "at least 3 strategies, not 2"),
        ((15,), r"\(D K\).*\(15,\)"),
    ],
)
def test_too_few_are_refused(shape, words):
    with pytest.raises(InputError, match=words):
        critical_difference(np.ones(shape))
