"""Instability of predictions: literal formulas over all pairs of seeds."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax
from sklearn.metrics import cohen_kappa_score

from deni.errors import InputError
from deni.measures import fleiss_kappa, jensen_shannon, pairwise_disagreement

FLEISS = """
0 0 0 0 14
0 2 6 4 2
0 0 3 5 6
0 3 9 2 0
2 2 8 1 1
7 7 0 0 0
3 2 6 3 0
2 5 3 2 2
6 5 2 1 0
0 2 2 3 7
"""  # a well-known example: 14 raters, 10 subjects, 5 classes; kappa is 0.210


@pytest.fixture
def predictions():
    return np.random.default_rng(0).choice(4, p=[0.5, 0.3, 0.15, 0.05], size=(7, 50))


def test_disagreement_is_the_mean_over_pairs_of_seeds(predictions):
    want = np.mean([(one != other).mean() for one, other in combinations(predictions, 2)])
    assert pairwise_disagreement(predictions) == pytest.approx(want)


def test_equal_seeds_do_not_disagree_and_opposite_ones_always():
    assert pairwise_disagreement([[0, 1, 2]] * 4) == 0
    assert pairwise_disagreement([[0, 1], [1, 0]]) == 1


def test_kappa_of_a_known_table():
    votes = np.array([line.split() for line in FLEISS.split("\n") if line], dtype=int)
    predictions = np.stack([np.arange(5).repeat(row) for row in votes], axis=1)  # (14, 10)
    assert fleiss_kappa(predictions) == pytest.approx(0.210, abs=5e-4)
    shuffled = np.random.default_rng(0).permuted(predictions, axis=0)
    assert fleiss_kappa(shuffled) == pytest.approx(fleiss_kappa(predictions))


@pytest.mark.parametrize("classes", [2, 77])
def test_kappa_is_the_literal_formula_for_any_number_of_classes(classes):
    generator = np.random.default_rng(classes)
    gold = generator.integers(classes, size=200)
    predictions = np.where(generator.random((6, 200)) < 0.7, gold, generator.integers(classes, size=(6, 200)))
    counts = [[int((text == each).sum()) for each in range(classes)] for text in predictions.T]
    agreement = np.mean([sum(n * (n - 1) for n in row) / (6 * 5) for row in counts])
    chance = sum((sum(row[each] for row in counts) / (200 * 6)) ** 2 for each in range(classes))
    assert fleiss_kappa(predictions) == pytest.approx((agreement - chance) / (1 - chance))
    assert 0.3 < fleiss_kappa(predictions) < 0.6


def test_kappa_of_two_seeds_that_use_classes_equally_often_is_cohens():
    one, other = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    assert fleiss_kappa([one, other]) == pytest.approx(cohen_kappa_score(one, other))


def test_kappa_is_one_for_equal_seeds_and_near_zero_by_chance(predictions):
    assert fleiss_kappa([predictions[0]] * 3) == pytest.approx(1)
    chance = np.random.default_rng(1).choice(3, p=[0.8, 0.15, 0.05], size=(10, 20_000))
    assert fleiss_kappa(chance) == pytest.approx(0, abs=0.005)
    assert pairwise_disagreement(chance) == pytest.approx(1 - 0.8**2 - 0.15**2 - 0.05**2, abs=0.005)
    assert fleiss_kappa([[0, 1], [1, 0]]) == -1


def test_kappa_is_undefined_where_only_one_class_is_chosen():
    assert np.isnan(fleiss_kappa([[2, 2, 2]] * 3))


def test_divergence_is_scipys_over_all_pairs():
    array = log_softmax(np.random.default_rng(0).normal(size=(5, 30, 4)) * 2, axis=-1)
    pairs = combinations(np.exp(array), 2)
    want = np.mean([jensenshannon(one, other, axis=-1) ** 2 for one, other in pairs])  # SciPy gives the root
    assert jensen_shannon(array) == pytest.approx(want, rel=1e-9)


def test_divergence_of_equal_seeds_is_zero_and_at_most_log_2():
    array = log_softmax(np.random.default_rng(0).normal(size=(1, 30, 4)), axis=-1)
    assert jensen_shannon(np.repeat(array, 3, axis=0)) == pytest.approx(0, abs=1e-12)
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(2)[[[0, 1], [1, 0]]])  # -inf is a probability of 0
    assert jensen_shannon(certain) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pairwise_disagreement([[0, 1]]), r"at least 2 seeds.*\(1, 2\)"),
        (lambda: pairwise_disagreement([]), "predictions is empty"),
        (lambda: fleiss_kappa([0, 1]), r"axes \(S N\).*\(2,\)"),
        (lambda: jensen_shannon(np.log(np.full((1, 3, 2), 0.5))), "at least 2, not 1"),
        (lambda: jensen_shannon(np.log(np.full((3, 2), 0.5))), r"\(S N C\).*\(3, 2\)"),
        (lambda: jensen_shannon(np.full((2, 3, 2), 0.5)), "add up to 3.297, not 1"),
    ],
)
def test_wrong_arrays_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
