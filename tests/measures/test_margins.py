"""Non-inferiority: SciPy's t test moved by the margin, and a rate of false claims that alpha bounds."""

import numpy as np
import pytest
from scipy import stats

from deni.errors import InputError
from deni.measures import F1_MARGIN, SD_MARGIN, non_inferior_mean, non_inferior_sd, pitman_morgan, sd_ratio_power
from tests.helpers.rates import binomial_interval


def paired(generator, times, difference=0.0, ratio=1.0, correlation=0.5, seeds=20):
    """Normal scores of two strategies, a row for each study."""
    shared, *own = generator.normal(size=(3, times, seeds))
    one, other = (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * each for each in own)
    return 0.9 + difference + 0.004 * ratio * one, 0.9 + 0.004 * other


def test_the_margins_are_those_fixed_for_the_project():
    assert (F1_MARGIN, SD_MARGIN) == (0.003, 1.1)


@pytest.mark.parametrize("margin", [F1_MARGIN, 0.001])
def test_non_inferiority_of_the_mean_is_a_t_test_moved_by_the_margin(margin):
    for first, second in zip(*paired(np.random.default_rng(0), 20), strict=True):
        want = stats.ttest_1samp(first - second, -margin, alternative="greater")
        found = non_inferior_mean(first, second, margin)
        assert found.p_value == pytest.approx(want.pvalue)
        assert found.bound == pytest.approx(want.confidence_interval(0.95).low)
        assert found.holds == (want.pvalue < 0.05) == (found.bound > -margin)


def test_a_mean_at_the_margin_passes_as_often_as_alpha():
    studies = zip(*paired(np.random.default_rng(1), 4000, difference=-F1_MARGIN), strict=True)
    least, most = binomial_interval(0.05, 4000)
    assert least < np.mean([non_inferior_mean(*each).holds for each in studies]) < most


def test_equal_means_pass_with_the_power_of_the_t_test():
    """SD of a difference 0.004, margin 0.003: the non-central t distribution says how often."""
    studies = zip(*paired(np.random.default_rng(2), 3000), strict=True)
    power = stats.nct.sf(stats.t.isf(0.05, 19), 19, F1_MARGIN / 0.004 * np.sqrt(20))
    least, most = binomial_interval(power, 3000)
    assert 0.8 < power < 0.99
    assert least < np.mean([non_inferior_mean(*each).holds for each in studies]) < most


def test_means_within_blocks_keep_the_level_and_count_blocks_equally():
    blocks = np.array([0] * 8 + [1] * 5 + [2] * 7)
    apart = np.array([0.05, 0.0, -0.05])  # differences of the blocks; their mean is at the margin
    studies = zip(*paired(np.random.default_rng(3), 3000, difference=-F1_MARGIN), strict=True)
    found = [non_inferior_mean(first + apart[blocks], second, blocks=blocks) for first, second in studies]
    least, most = binomial_interval(0.05, 3000)
    assert least < np.mean([each.holds for each in found]) < most
    first, second = (each[0] for each in paired(np.random.default_rng(4), 1))
    by_block = [(first - second)[blocks == each].mean() for each in range(3)]
    assert non_inferior_mean(first, second, blocks=blocks).value == pytest.approx(np.mean(by_block))


def test_equal_scores_are_not_inferior_and_constant_losses_are():
    scores = np.array([0.8, 0.9, 0.7])
    assert non_inferior_mean(scores, scores).holds
    worse = non_inferior_mean(scores - 0.0625, scores)
    assert not worse.holds
    assert worse.value == pytest.approx(-0.0625)
    assert worse.p_value == pytest.approx(1)


def test_non_inferiority_of_the_sd_is_pitman_morgan_at_the_margin():
    for first, second in zip(*paired(np.random.default_rng(5), 20, ratio=0.7), strict=True):
        found = non_inferior_sd(first, second)
        assert found.p_value == pytest.approx(float(pitman_morgan(first, 1.1 * second, 1.0, "less").p_value))
        assert found.holds == (found.p_value < 0.05) == (found.bound < 1.1)
        assert found.value == pytest.approx(first.std() / second.std())
        assert pitman_morgan(first, second, found.bound, "less").p_value == pytest.approx(0.05)


def test_an_sd_at_the_margin_passes_as_often_as_alpha():
    studies = zip(*paired(np.random.default_rng(6), 3000, ratio=1.1), strict=True)
    least, most = binomial_interval(0.05, 3000)
    assert least < np.mean([non_inferior_sd(*each).holds for each in studies]) < most


@pytest.mark.parametrize("ratio", [1.0, 0.6])
def test_an_sd_passes_with_the_power_that_is_computed(ratio):
    studies = zip(*paired(np.random.default_rng(7), 2000, ratio=ratio), strict=True)
    power = sd_ratio_power(20, 1.1 / ratio, 0.5, one_sided=True)
    least, most = binomial_interval(power, 2000)
    assert least - 1e-3 < np.mean([non_inferior_sd(*each).holds for each in studies]) < most + 1e-3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: non_inferior_sd(np.arange(19.0), np.arange(19.0)), "19 seeds support no claim about spread.*20"),
        (lambda: non_inferior_sd(np.arange(20.0), np.arange(21.0)), r"\(20,\) and \(21,\) differ"),
        (lambda: non_inferior_sd(np.arange(20.0), np.arange(20.0), 0.9), "above 1, not 0.9"),
        (lambda: non_inferior_mean([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], -0.003), "margin must be above 0"),
        (lambda: non_inferior_mean([0.1, 0.2], [0.1, 0.2]), "at least 3 seeds"),
        (lambda: non_inferior_mean(np.ones((4, 2)), np.ones((4, 2))), r"\(4, 2\)"),
        (lambda: non_inferior_mean([0.1, 0.2, 0.3], [0.1, 0.2, 0.3], alpha=5), "alpha"),
    ],
)
def test_wrong_arrays_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
