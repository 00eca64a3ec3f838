"""Uncertainty of members and selective answers: literal formulas and the ends of the range."""

from itertools import permutations

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from deni.errors import InputError
from deni.measures import mutual_information, predictive_entropy, risk_coverage


@pytest.fixture
def members():
    return log_softmax(np.random.default_rng(0).normal(size=(20, 5, 3)) * 2, axis=-1)


def test_entropies_are_scipys(members):
    probabilities = np.exp(members)
    total = entropy(probabilities.mean(1), axis=-1)
    assert predictive_entropy(members) == pytest.approx(total)
    assert mutual_information(members) == pytest.approx(total - entropy(probabilities, axis=-1).mean(1))


def test_information_is_the_mean_divergence_from_the_mean(members):
    probabilities = np.exp(members)
    mean = probabilities.mean(1, keepdims=True)
    want = entropy(probabilities, np.broadcast_to(mean, probabilities.shape), axis=-1).mean(1)
    assert mutual_information(members) == pytest.approx(want)


def test_equal_members_share_no_information_and_certain_ones_that_differ_all(members):
    equal = np.repeat(members[:, :1], 4, axis=1)
    assert mutual_information(equal) == pytest.approx(0, abs=1e-12)
    assert (mutual_information(equal) >= 0).all()
    with np.errstate(divide="ignore"):
        opposite = np.log(np.eye(3)[[[0, 1, 2]]])
    assert mutual_information(opposite) == pytest.approx([np.log(3)])
    assert predictive_entropy(opposite) == pytest.approx([np.log(3)])


def test_the_risk_of_each_coverage_is_its_formula():
    generator = np.random.default_rng(0)
    confidence, right = generator.random(50), generator.random(50) < 0.7
    curve = risk_coverage(confidence, right)
    for place in range(50):
        surest = np.argsort(-confidence)[: place + 1]
        assert curve.risk[place] == pytest.approx(1 - right[surest].mean())
        assert curve.coverage[place] == pytest.approx((place + 1) / 50)


def test_equal_confidences_give_the_mean_over_their_orders():
    confidence, right = np.array([0.9, 0.5, 0.5, 0.5, 0.1]), np.array([True, False, True, True, False])
    orders = [[0, *order, 4] for order in permutations([1, 2, 3])]
    want = np.mean([(~right[order]).cumsum() / np.arange(1, 6) for order in orders], axis=0)
    assert risk_coverage(confidence, right).risk == pytest.approx(want)


def test_a_perfect_order_has_the_least_risk_and_the_reverse_the_most():
    right = np.array([True] * 15 + [False] * 5)
    best, worst = np.linspace(1, 0, 20), np.linspace(0, 1, 20)
    low, same, high = (risk_coverage(confidence, right).risk for confidence in (best, np.ones(20), worst))
    assert low.mean() == pytest.approx(sum(each / (15 + each) for each in range(1, 6)) / 20)
    assert low.mean() < same.mean() < high.mean()
    assert same == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: predictive_entropy(np.log([[0.5, 0.5]])), r"\(N M C\).*\(1, 2\)"),
        (lambda: mutual_information(np.full((1, 2, 2), 0.5)), "log probabilities"),
        (lambda: risk_coverage([0.5, 0.6], [True]), r"\(2,\).*\(1,\)"),
        (lambda: risk_coverage([0.5, 0.6], [1, 0]), "booleans.*int64"),
        (lambda: risk_coverage([0.5, np.nan], [True, False]), "NaN"),
    ],
)
def test_wrong_arrays_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
