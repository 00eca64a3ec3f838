"""Spread over the seeds: literal formulas, and intervals that cover as often as they say."""

import numpy as np
import pytest
from scipy import stats

from deni.errors import InputError
from deni.measures import (
    expected_shortfall,
    mean_interval,
    sd_bootstrap,
    sd_interval,
    standard_deviation,
)
from deni.measures.resampling import draw_seeds
from tests.helpers.rates import binomial_interval


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(0.9, 0.02, size=(21, 3))


def test_each_measure_is_its_formula_for_each_column(scores):
    assert standard_deviation(scores) == pytest.approx(scores.std(0, ddof=1))
    for column, each in zip(scores.T, sd_interval(scores).value, strict=True):
        assert standard_deviation(column) == pytest.approx(each)


def test_the_sd_within_blocks_ignores_the_blocks_means(scores):
    column = scores[:, 0]
    blocks = np.arange(21) % 3
    parts = [column[blocks == each] for each in range(3)]
    pooled = np.sqrt(sum(((part - part.mean()) ** 2).sum() for part in parts) / (21 - 3))
    assert standard_deviation(column, blocks) == pytest.approx(pooled)
    assert standard_deviation(column + 5 * blocks, blocks) == pytest.approx(pooled)
    assert standard_deviation(column + 5 * blocks) > 4


@pytest.mark.parametrize("share", [0.05, 0.1, 0.33, 0.5, 1.0])
def test_expected_shortfall_is_the_mean_of_the_lowest_quantiles(scores, share):
    """The integral of the quantile function of the seeds from 0 to the share, divided by it."""
    column = np.sort(scores[:, 0])
    at = (np.arange(210_000) + 0.5) / 210_000 * share
    assert expected_shortfall(scores, share)[0] == pytest.approx(column[np.floor(at * 21).astype(int)].mean(), abs=1e-6)


def test_expected_shortfall_lies_between_the_worst_seed_and_the_mean(scores):
    assert expected_shortfall(scores, 1.0) == pytest.approx(scores.mean(0))
    assert expected_shortfall(scores, 1 / 21) == pytest.approx(scores.min(0))
    assert expected_shortfall(scores, 2 / 21) == pytest.approx(np.sort(scores, axis=0)[:2].mean(0))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_chi_square_interval_covers_normal_scores_as_often_as_it_says(confidence):
    runs = np.random.default_rng(1).normal(0.9, 0.02, size=(20, 40_000))
    _, low, high = sd_interval(runs, confidence)
    least, most = binomial_interval(confidence, 40_000)
    assert least < ((low <= 0.02) & (high >= 0.02)).mean() < most
    assert (low > 0.02).mean() == pytest.approx((1 - confidence) / 2, abs=0.006)


def test_the_studentized_bootstrap_covers_better_than_percentiles():
    """At 20 normal seeds about 93 % cover (benchmarks/README.md), and 86 % of the intervals of plain percentiles."""
    generator, hits = np.random.default_rng(2), []
    for runs in generator.normal(0.9, 0.02, size=(400, 20)):
        _, low, high = sd_bootstrap(runs, generator=generator, resamples=500)
        hits.append(low <= 0.02 <= high)
    least, most = binomial_interval(0.932, 400)
    assert least < np.mean(hits) < most


def test_the_studentized_bootstrap_is_its_literal_formula():
    """Each resample: its log SD less that of the scores, over the error of its own log SD; ends from the quantiles."""
    runs = np.random.default_rng(3).normal(0.9, 0.02, size=15)

    def log_and_error(scores):
        squares = (scores - scores.mean()) ** 2 / scores.var(ddof=1)
        return np.log(scores.std(ddof=1)), np.std((squares - 1) / 2, ddof=1) / np.sqrt(len(scores))

    value, error = log_and_error(runs)
    drawn = draw_seeds(np.zeros(15, dtype=int), 500, np.random.default_rng(4))
    ratios = [(log - value) / own for log, own in (log_and_error(runs[each]) for each in drawn)]
    low, high = np.exp(value - np.quantile(ratios, [0.975, 0.025]) * error)
    found = sd_bootstrap(runs, generator=np.random.default_rng(4), resamples=500)
    assert found == pytest.approx((runs.std(ddof=1), low, high))


def test_equal_scores_have_an_sd_of_zero_without_a_width():
    assert sd_interval([0.5, 0.5, 0.5]) == (0, 0, 0)
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert expected_shortfall([0.5]) == 0.5  # one seed has no spread to show


def test_the_generator_decides_the_interval_and_not_the_value(scores):
    column = scores[:, 0]
    first, again, other = (sd_bootstrap(column, generator=np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first.value == other.value == pytest.approx(column.std(ddof=1))
    assert first.low != other.low
    assert first.high != other.high
    assert other.low == pytest.approx(first.low, rel=0.05)


def test_more_confidence_is_a_wider_interval(scores):
    column = scores[:, 0]
    for interval in (
        sd_interval,
        lambda *args: sd_bootstrap(args[0], generator=np.random.default_rng(0), confidence=args[1]),
    ):
        narrow, wide = interval(column, 0.8), interval(column, 0.99)
        assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: standard_deviation([0.5]), r"at least 2 seeds.*\(1,\)"),
        (lambda: standard_deviation([]), "empty"),
        (lambda: mean_interval([0.5, np.nan]), "1 NaN"),
        (lambda: mean_interval([0.5]), "at least 2 seeds"),
        (lambda: expected_shortfall([]), "empty"),
        (lambda: expected_shortfall([0.5, np.nan]), "1 NaN"),
        (lambda: standard_deviation(0.5), r"axes \(S ...\).*\(\)"),
        (lambda: standard_deviation(["a", "b"]), "array of numbers"),
        (lambda: standard_deviation([1.0, 2.0, 3.0], blocks=[0, 0]), r"each of 3 seeds.*\(2,\)"),
        (lambda: standard_deviation([1.0, 2.0, 3.0], blocks=["a", "a", "b"]), "block b has one seed"),
        (lambda: sd_interval([0.5, 0.6], 95), "confidence must be between 0 and 1"),
        (lambda: expected_shortfall([0.5, 0.6], 0), "share"),
        (lambda: sd_bootstrap([0.5, 0.6, 0.6], generator=np.random.default_rng(0)), "3 different"),
        (lambda: sd_bootstrap(np.ones((3, 2)), generator=np.random.default_rng(0)), r"\(3, 2\)"),
        (lambda: sd_bootstrap([0.5, 0.6, 0.7], generator=np.random.default_rng(0), resamples=5), "resamples"),
    ],
)
def test_wrong_arrays_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_the_interval_of_a_mean_is_that_of_scipy(scores):
    column = scores[:, 0]
    want = stats.t.interval(0.9, len(column) - 1, column.mean(), stats.sem(column))
    assert mean_interval(column, 0.9)[1:] == pytest.approx(want)
    assert mean_interval(scores).value == pytest.approx(scores.mean(0))


def test_intervals_within_blocks_ignore_how_far_the_blocks_are_apart(scores):
    column, blocks = scores[:20, 0], np.repeat([0, 1], [8, 12])
    value, low, high = mean_interval(column + 5 * blocks, blocks=blocks)
    assert value == pytest.approx((column[:8].mean() + column[8:].mean() + 5) / 2)  # blocks count equally
    pooled = np.sqrt(sum(((part - part.mean()) ** 2).sum() for part in (column[:8], column[8:])) / 18)
    half = stats.t.ppf(0.975, 18) * pooled * np.sqrt(1 / 8 + 1 / 12) / 2
    assert (high - low) / 2 == pytest.approx(half)
    spread = sd_interval(column + 5 * blocks, blocks=blocks)
    assert spread.value == pytest.approx(pooled)
    assert spread.low == pytest.approx(pooled * np.sqrt(18 / stats.chi2.ppf(0.975, 18)))
