"""Targets and weights by hand, by scipy and by scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import mode
from sklearn.preprocessing import LabelBinarizer, MultiLabelBinarizer

from deni.artifact import OutOfFold, digests_of
from deni.data import Texts
from deni.distillation import targets
from deni.tasks import TASKS

DRAW = np.random.default_rng(0)
CLASSES, LABELS, NUMBERS, WORDS = (TASKS[name] for name in ("single_label", "multi_label", "regression", "token"))


def log_probabilities(*shape):
    return np.log(DRAW.dirichlet(np.ones(shape[-1]), shape[:-1]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_scaled_vote_is_a_power_of_its_probabilities(temperature):
    votes = log_probabilities(20, 4)
    powers = np.exp(votes) ** (1 / temperature)
    assert targets.soften(votes, CLASSES, temperature) == pytest.approx(powers / powers.sum(1, keepdims=True))
    odds = DRAW.normal(size=(20, 3))
    there = expit(odds) ** (1 / temperature)
    not_there = expit(-odds) ** (1 / temperature)
    assert targets.soften(odds, LABELS, temperature) == pytest.approx(there / (there + not_there))
    assert targets.soften(odds, NUMBERS, temperature) == pytest.approx(odds)


def test_a_class_without_a_vote_has_target_0():
    """A hard vote gives shares of members, and the log of none is minus infinity."""
    assert targets.soften(np.array([[-np.inf, np.log(0.3), np.log(0.7)]]), CLASSES) == pytest.approx(
        np.array([[0, 0.3, 0.7]])
    )
    assert targets.soften(np.array([[np.inf, -np.inf]]), LABELS, 2.0).tolist() == [[1.0, 0.0]]


def test_agreement_is_one_minus_the_variation_ratio():
    members = log_probabilities(50, 7, 3)
    chosen = members.argmax(-1)
    votes = np.stack([(chosen == label).mean(1) for label in range(3)], -1)  # the majority, ties to the lowest
    expected = mode(chosen, axis=1).count / 7
    assert targets.agreement(members, votes, CLASSES) == pytest.approx(expected)


def test_agreement_of_labels_and_of_one_member():
    members = np.array([[[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]])  # log odds of two labels, three members
    assert targets.agreement(members, np.array([[0.5, -0.5]]), LABELS) == pytest.approx([2 / 3])
    for task in (CLASSES, LABELS, NUMBERS):
        one = DRAW.normal(size=(5, 1, 3))
        assert targets.agreement(one, one[:, 0], task).tolist() == [1] * 5


def test_agreement_of_numbers_is_the_share_of_their_variance_between_texts():
    members = np.array([[[1.0], [3.0]], [[6.0], [6.0]]])  # variances 1 and 0 around 2 and 6
    votes = members.mean(1)  # 2 and 6: variance 4
    assert targets.agreement(members, votes, NUMBERS) == pytest.approx([4 / 5, 1])
    assert targets.agreement(np.ones((2, 3, 1)), np.ones((2, 1)), NUMBERS).tolist() == [1, 1]  # nothing varies


def test_gold_targets_are_those_of_scikit_learn():
    names, given = ["a", "b", "c"], ["c", "a", "b", "a"]
    found = [targets.as_targets(each, CLASSES, 3) for each in CLASSES.encode(given, names, "")]
    assert np.array(found).tolist() == LabelBinarizer().fit(names).transform(given).tolist()
    several = [("a", "c"), (), ("b",)]
    found = [targets.as_targets(each, LABELS, 3) for each in LABELS.encode(several, names, "")]
    assert np.array(found).tolist() == MultiLabelBinarizer(classes=names).fit_transform(several).tolist()
    assert targets.as_targets(2.5, NUMBERS, 1).tolist() == [2.5]
    assert targets.as_targets([1, 0], WORDS, 2).tolist() == [[0, 1], [1, 0]]


def test_out_of_fold_targets_are_found_by_text_and_averaged_over_divisions():
    outputs = log_probabilities(2, 3, 4)  # two divisions of three texts
    folds = np.array([[0, 1, 0], [1, 0, 1]])
    found = OutOfFold({"vote": outputs}, folds, [0, 1, 2], digests_of(["one", "two", "three"]), list("abcd"))
    given = Texts(["three", "new", "one"], ["a"] * 3, "a.csv", None)
    first, none, last = targets.out_of_fold(found, given, CLASSES)
    assert none is None
    assert first == pytest.approx(np.exp(outputs[:, 2]).mean(0))
    assert last == pytest.approx(np.exp(outputs[:, 0]).mean(0))
    half = targets.out_of_fold(found, given, CLASSES, temperature=0.5)[0]
    squares = np.exp(outputs[:, 2]) ** 2
    assert half == pytest.approx((squares / squares.sum(1, keepdims=True)).mean(0))


def test_out_of_fold_targets_of_words_lie_together():
    outputs = log_probabilities(1, 5, 2)
    digests = digests_of([("it", "rains"), ("Anna", "left", "home")])
    found = OutOfFold(
        {"vote": outputs}, np.zeros((1, 5), int), [0, 0, 1, 0, 0], digests, ["B-PER", "O"], np.array([0, 0, 1, 1, 1])
    )
    given = Texts([("Anna", "left", "home")], None, "a.csv", None, "token")
    (target,) = targets.out_of_fold(found, given, WORDS)
    assert target == pytest.approx(np.exp(outputs[0, 2:]))


def test_out_of_fold_odds_and_numbers():
    odds = np.array([[[0.0, 2.0]], [[1.0, -2.0]]])  # two divisions of one text
    found = OutOfFold({"vote": odds}, np.zeros((2, 1), int), [[0, 1]], digests_of(["one"]), ["a", "b"])
    given = Texts(["one"], None, "a.csv", None, "multi_label")
    (target,) = targets.out_of_fold(found, given, LABELS)
    assert logit(target[0]) != pytest.approx(0.5)  # probabilities are averaged, not their log odds
    assert target == pytest.approx([(0.5 + expit(1)) / 2, (expit(2) + expit(-2)) / 2])
    assert targets.out_of_fold(found, given, NUMBERS)[0].tolist() == [0.5, 0.0]


def test_likely_labels_are_what_the_vote_chooses():
    names = ["a", "b", "c"]
    assert targets.likely_label(np.array([0.2, 0.5, 0.3]), CLASSES, names) == "b"
    assert targets.likely_label(np.array([0.6, 0.5, 0.9]), LABELS, names) == ("a", "c")
    assert targets.likely_label(np.array([1.5]), NUMBERS, ["value"]) == 1.5
    assert targets.likely_label(np.eye(3)[[2, 0]], WORDS, names) == ("c", "a")
