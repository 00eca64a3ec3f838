"""What is chosen is uncertain, spread out, and the same again."""

import numpy as np
import pytest

from deni.errors import InputError
from deni.labeling.choosing import CANDIDATES, choose, uncertainty
from deni.tasks import find_task


def test_uncertainty_of_classes_is_one_minus_the_margin():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 20)
    expected = []
    for row in probabilities.tolist():
        first, second = sorted(row)[-1], sorted(row)[-2]
        expected.append(1 - (first - second))
    votes = np.log(probabilities)
    np.testing.assert_allclose(uncertainty(find_task("single_label"), votes[:, None], votes), expected)
    lengths = [3, 1, 0, 16]
    of_words = uncertainty(find_task("token"), votes[:, None], votes, lengths)
    np.testing.assert_allclose(of_words, [np.mean(expected[:3]), expected[3], 0, np.mean(expected[4:])])


def test_uncertainty_of_labels_and_of_numbers():
    odds = np.log(np.array([[0.5, 0.9], [0.99, 0.01]]) / (1 - np.array([[0.5, 0.9], [0.99, 0.01]])))
    np.testing.assert_allclose(uncertainty(find_task("multi_label"), odds[:, None], odds), [0.6, 0.02])
    members = np.array([[[1.0], [3.0]], [[2.0], [2.0]]])
    found = uncertainty(find_task("regression"), members, members.mean(1))
    np.testing.assert_allclose(found, [np.std([1, 3], ddof=1), 0])


def test_one_model_of_numbers_is_refused():
    with pytest.raises(InputError, match="does not tell how sure it is: train members"):
        uncertainty(find_task("regression"), np.zeros((4, 1, 1)), np.zeros((4, 1)))


def test_one_text_of_each_group_is_chosen_though_one_group_is_the_most_uncertain():
    generator = np.random.default_rng(1)
    centers = np.eye(8)[:5]
    groups = np.repeat(np.arange(5), 6)
    features = centers[groups] + generator.normal(size=(30, 8)) / 100
    uncertain = np.where(groups == 2, 0.9, 0.7) + generator.random(30) / 100
    found = choose(uncertain, features, 5)
    assert sorted(groups[found.rows]) == [0, 1, 2, 3, 4]
    assert groups[found.rows[0]] == 2, "the most uncertain first"
    assert found.stands_for.tolist() == [6] * 5
    again = choose(uncertain, features, 5)
    assert (found.rows == again.rows).all()


def test_only_the_most_uncertain_are_candidates():
    generator = np.random.default_rng(2)
    uncertain, features = generator.random(400), generator.normal(size=(400, 3))
    found = choose(uncertain, features, 4).rows
    assert len(set(found)) == 4
    assert uncertain[found].min() >= np.sort(uncertain)[-CANDIDATES * 4]
    assert (np.diff(uncertain[found]) <= 0).all()


def test_equal_texts_and_sure_ones_are_chosen_once_each():
    assert sorted(choose(np.zeros(40), np.ones((40, 3)), 6).rows) == sorted(
        set(choose(np.zeros(40), np.ones((40, 3)), 6).rows)
    )
    found = choose(np.full(40, 0.5), np.zeros((40, 3)), 6)
    assert len(set(found.rows)) == 6


def test_a_small_pool_is_ordered():
    found = choose(np.array([0.1, 0.9, 0.5]), np.ones((3, 2)), 50)
    assert found.rows.tolist() == [1, 2, 0]


def test_without_features_the_most_uncertain_are_chosen():
    assert choose(np.array([0.1, 0.9, 0.5, 0.7]), None, 2).rows.tolist() == [1, 3]
