"""What a number of seeds can find: literal power of the F and t tests; Pitman-Morgan's is simulated beside its test."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from deni.errors import InputError
from deni.measures import detectable_difference, detectable_sd_ratio, sd_ratio_power
from tests.helpers.rates import binomial_interval


@pytest.mark.parametrize("correlation", [None, 0.0, 0.9])
@pytest.mark.parametrize("one_sided", [False, True])
def test_no_effect_is_found_as_often_as_alpha_and_a_great_one_always(correlation, one_sided):
    for alpha in (0.05, 0.01):
        assert sd_ratio_power(20, 1.0, correlation, alpha=alpha, one_sided=one_sided) == pytest.approx(alpha)
    assert sd_ratio_power(20, 30.0, correlation, one_sided=one_sided) == pytest.approx(1)


def test_the_power_of_a_ratio_is_that_of_its_inverse_but_not_one_sided():
    for correlation in (None, 0.5):
        assert sd_ratio_power(20, 1.5, correlation) == pytest.approx(sd_ratio_power(20, 1 / 1.5, correlation))
        assert sd_ratio_power(20, 1 / 1.5, correlation, one_sided=True) < 0.05


@pytest.mark.parametrize("ratio", [1.3, 2.0])
def test_the_power_without_pairs_is_that_of_the_f_test(ratio):
    generator, times = np.random.default_rng(0), 20_000
    first, second = generator.normal(size=(2, 20, times)).var(axis=1, ddof=1) * [[ratio**2], [1]]
    p_values = 2 * np.minimum(stats.f.sf(first / second, 19, 19), stats.f.cdf(first / second, 19, 19))
    least, most = binomial_interval(sd_ratio_power(20, ratio, None), times)
    assert least < (p_values <= 0.05).mean() < most


def test_an_observed_ratio_of_1_59_is_just_significant_without_pairs():
    assert detectable_sd_ratio(20, None, power=0.5) == pytest.approx(stats.f.isf(0.025, 19, 19) ** 0.5, abs=1e-3)
    assert detectable_sd_ratio(20, None, power=0.5) == pytest.approx(1.59, abs=0.005)


@pytest.mark.parametrize("correlation", [None, 0.0, 0.7])
@pytest.mark.parametrize("one_sided", [False, True])
def test_the_detectable_ratio_has_the_power_that_was_asked_for(correlation, one_sided):
    for power in (0.5, 0.8, 0.95):
        ratio = detectable_sd_ratio(20, correlation, power=power, one_sided=one_sided)
        assert sd_ratio_power(20, ratio, correlation, one_sided=one_sided) == pytest.approx(power, abs=1e-5)


def test_more_seeds_and_more_correlation_find_less_and_blocks_cost_little():
    by_seeds = [detectable_sd_ratio(seeds, 0.5) for seeds in (5, 10, 20, 60)]
    by_correlation = [detectable_sd_ratio(20, each) for each in (0.0, 0.3, 0.6, 0.9)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_correlation == sorted(by_correlation, reverse=True)
    assert 1 < detectable_sd_ratio(21, 0.5, blocks=3) / detectable_sd_ratio(21, 0.5) < 1.1


def test_the_detectable_difference_is_that_of_the_paired_t_test():
    generator, times = np.random.default_rng(1), 20_000
    for blocks, one_sided in ((1, False), (1, True), (4, False)):
        effect = detectable_difference(20, 0.02, power=0.7, one_sided=one_sided, blocks=blocks)
        found = generator.normal(effect, 0.02, size=(blocks, 20 // blocks, times))
        error = np.sqrt(found.var(axis=1, ddof=1).mean(0) / 20)
        statistic = found.mean((0, 1)) / error
        critical = stats.t.isf(0.05 if one_sided else 0.025, 20 - blocks)
        least, most = binomial_interval(0.7, times)
        assert least < (statistic > critical).mean() < most


def test_the_detectable_difference_of_a_known_table():
    """Cohen's d of a two-sided paired t test with a power of 80 %: 0.66 with 20 pairs, 0.50 with 34, 0.20 with 199."""
    assert [round(detectable_difference(pairs, 1.0), 2) for pairs in (20, 34, 199)] == [0.66, 0.5, 0.2]


PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


def test_the_table_of_what_is_found_is_what_the_functions_say():
    table = PAGE.read_text().partition("<!-- detectable -->")[2].partition("<!-- /detectable -->")[0]
    rows = [[float(cell) for cell in line.strip("|").split("|")] for line in table.split("\n") if line[2:3].isdigit()]
    assert [row[0] for row in rows] == [5, 10, 20, 40, 80]
    for seeds, *shown in rows:
        want = [
            *(detectable_sd_ratio(int(seeds), correlation) for correlation in (None, 0.0, 0.5, 0.8)),
            detectable_difference(int(seeds), 1.0),
            1.1 / detectable_sd_ratio(int(seeds), 0.5, one_sided=True),
            0.3 / detectable_difference(int(seeds), 1.0, one_sided=True),
        ]
        assert shown == [float(f"{each:.2f}") for each in want]


def test_the_example_of_the_page_prints_what_it_shows():
    tried = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert tried.attempted > 8
    assert tried.failed == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sd_ratio_power(3, 1.5), "seeds must be at least 4, not 3"),
        (lambda: sd_ratio_power(20, 1.5, blocks=18), "seeds must be at least 21"),
        (lambda: sd_ratio_power(20, -1.5), "ratio must be above 0"),
        (lambda: sd_ratio_power(20, 1.5, 1.0), "correlation must be between -1 and 1"),
        (lambda: detectable_sd_ratio(20, power=0.01), "power must be above alpha"),
        (lambda: detectable_difference(20, 0.0), "sd must be above 0"),
        (lambda: detectable_difference(20, 0.1, alpha=0), "alpha"),
    ],
)
def test_wrong_settings_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
