"""What changes from one model to another, held to SciPy and to counting by hand."""

from math import comb

import numpy as np
import pytest
from scipy import stats

from deni.errors import InputError
from deni.measures import paired_difference, share_with_interval, sign_test, signed_rank_test


@pytest.mark.parametrize(("better", "worse"), [(9, 1), (3, 3), (0, 7), (12, 5)])
def test_the_sign_test_is_mcnemars_in_its_exact_form(better, worse):
    total, least = better + worse, min(better, worse)
    tail = sum(comb(total, at) for at in range(least + 1)) / 2**total
    assert sign_test(better, worse) == pytest.approx(min(1.0, 2 * tail))
    assert sign_test(better, worse) == sign_test(worse, better)


def test_without_a_change_nothing_is_shown():
    assert sign_test(0, 0) == 1
    assert signed_rank_test([1.0, 2.0], [1.0, 2.0]) == 1


def test_the_signed_rank_test_is_scipys():
    generator = np.random.default_rng(0)
    one = generator.normal(size=30)
    other = one + generator.normal(0.4, size=30)
    assert signed_rank_test(one, other) == pytest.approx(stats.wilcoxon(one, other).pvalue)


@pytest.mark.parametrize(("count", "total"), [(0, 30), (7, 40), (40, 40)])
def test_the_interval_of_a_share_is_clopper_and_pearsons(count, total):
    share, low, high = share_with_interval(count, total, 0.9)
    assert share == count / total
    assert low == pytest.approx(stats.beta.ppf(0.05, count, total - count + 1) if count else 0)
    assert high == pytest.approx(stats.beta.ppf(0.95, count + 1, total - count) if count < total else 1)


def test_counts_that_are_none_are_refused():
    with pytest.raises(InputError, match="at least 0"):
        sign_test(-1, 3)
    with pytest.raises(InputError, match="3 of 2"):
        share_with_interval(3, 2)


def test_the_paired_interval_covers_the_true_difference_and_is_narrower_than_an_unpaired_one():
    """Two models that are right on 80 and 84 % of all texts, mostly on the same ones."""
    generator, hits, widths = np.random.default_rng(1), 0, []
    for _ in range(200):
        draw = generator.random(150)
        right = np.stack([draw < 0.80, draw < 0.84]).astype(float)
        scores = [lambda weights, own=own: weights @ own / weights.sum(1) for own in right]
        found = paired_difference(*scores, 150, generator=generator, resamples=300)
        assert found.value == pytest.approx(right[1].mean() - right[0].mean())
        hits += found.low - 1e-9 <= 0.04 <= found.high + 1e-9
        widths.append(found.high - found.low)
    assert 180 <= hits <= 199
    unpaired = 2 * 1.96 * np.sqrt((0.8 * 0.2 + 0.84 * 0.16) / 150)
    assert np.mean(widths) < unpaired / 2
