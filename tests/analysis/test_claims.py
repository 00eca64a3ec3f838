"""How often the page claims what is not so, and finds what is: simulated studies of two strategies."""

import numpy as np
import pytest
from scipy.stats import binom

from deni.analysis.comparisons import compare
from deni.analysis.runs import Block, Group, Setting
from deni.measures import accuracy

SETTING = Setting("made", "minilm", "lora", 100, "", "single_label")
TIMES = 150


def strategy(name, right):
    """Runs whose scores are the share of right answers, `(S, N)`."""
    gold = np.arange(right.shape[1]) % 2
    predictions = np.where(right, gold, 1 - gold)
    seeds = [str(seed) for seed in range(len(right))]
    block = Block(0, [], seeds, accuracy(predictions, gold), 0.5, len(gold), predictions, gold, None)
    return Group(SETTING, name, [block])


def studies(generator, means=(0.75, 0.75), lucks=(0.1, 0.1), failed=0.0, seeds=20, texts=100):
    """Comparisons of strategies that differ by seed, by text, and by runs that choose at random."""
    for _ in range(TIMES):
        hard, groups = generator.uniform(-0.1, 0.1, texts), []
        for mean, luck in zip(means, lucks, strict=True):
            chance = mean + luck * generator.uniform(-1, 1, (seeds, 1)) + hard
            chance = np.where(generator.random((seeds, 1)) < failed, 0.5, chance)
            groups.append(strategy("any", generator.random((seeds, texts)) < chance))
        yield compare(*groups, generator, 200)


@pytest.mark.parametrize("failed", [0.0, 0.1])
def test_equal_strategies_are_rarely_told_apart(failed):
    found = list(studies(np.random.default_rng(0), failed=failed))
    most = (binom.ppf(0.999, TIMES, 0.05) + 1) / TIMES
    assert np.mean([each.of_mean in ("higher", "lower") for each in found]) < most
    assert np.mean([each.of_spread in ("more stable", "less stable") for each in found]) < most
    assert np.mean([each.of_spread == "at least as stable" for each in found]) < most  # 1 is not far below 1.1


def test_strategies_that_differ_are_told_apart():
    found = list(studies(np.random.default_rng(1), means=(0.8, 0.7), lucks=(0.02, 0.18)))
    assert np.mean([each.of_mean == "higher" for each in found]) > 0.8
    assert np.mean([each.of_spread == "more stable" for each in found]) > 0.8
    assert not any(each.of_mean == "lower" or each.of_spread == "less stable" for each in found)


def test_a_mean_below_the_margin_is_rarely_called_at_least_as_good():
    found = list(studies(np.random.default_rng(2), means=(0.747, 0.75), lucks=(0.0, 0.0)))
    most = (binom.ppf(0.999, TIMES, 0.05) + 1) / TIMES
    assert np.mean([each.of_mean in ("at least as good", "higher") for each in found]) < most
