"""Scores of many seeds at once are those of scikit-learn, one by one; failed runs are found."""

import time

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from deni.errors import InputError
from deni.measures import accuracy, failed_runs, macro_f1, majority_score

PLAIN = {
    macro_f1: lambda gold, chosen: f1_score(gold, chosen, average="macro"),
    accuracy: accuracy_score,
}


@pytest.mark.parametrize("score", PLAIN)
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_score_of_each_seed_is_that_of_scikit_learn(score, classes):
    generator = np.random.default_rng(classes)
    gold = generator.integers(classes, size=40)
    predictions = np.where(generator.random((12, 40)) < 0.6, gold, generator.integers(classes, size=(12, 40)))
    predictions[0] = 1  # one class only
    predictions[1] = classes + 2  # a class that gold does not have, and two that nobody has
    want = [PLAIN[score](gold, each) for each in predictions]
    assert score(predictions, gold) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("score", PLAIN)
def test_a_weighted_score_is_that_of_repeated_examples(score):
    generator = np.random.default_rng(0)
    gold, predictions = generator.integers(4, size=30), generator.integers(4, size=(5, 30))
    weights = generator.integers(4, size=(6, 30))
    weights[0] = gold == 2  # three classes are gone
    want = [score(predictions.repeat(counts, axis=1), gold.repeat(counts)) for counts in weights]
    assert score(predictions, gold, weights) == pytest.approx(np.array(want), abs=1e-12)


def test_the_majority_score_is_that_of_a_classifier_without_a_text():
    gold = np.array([2, 2, 0, 1, 2, 0])
    assert majority_score(gold) == pytest.approx(f1_score(gold, np.full(6, 2), average="macro"))
    assert majority_score(gold, accuracy) == 0.5
    assert majority_score([1, 0, 0, 1], accuracy) == 0.5


def test_failed_runs_are_no_better_than_chance_or_far_below_the_median():
    scores = np.array([[0.9, 0.5], [0.5, 0.9], [0.5001, 0.9], [0.9, 0.9]])
    assert failed_runs(scores, chance=0.5).tolist() == [[False, True], [True, False], [False, False], [False, False]]
    median = np.median(scores, axis=0)
    for share in (0.6, 0.8):
        assert (failed_runs(scores, share=share) == (scores < share * median)).all()
    assert (failed_runs(scores, 0.5, 0.8) == ((scores <= 0.5) | (scores < 0.8 * median))).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: macro_f1([[0, 1, 1]], [0, 1]), r"\(1, 3\).*\(2,\)"),
        (lambda: macro_f1([0, 1, 1], [0, 1, 1]), r"axes \(S N\).*\(3,\)"),
        (lambda: macro_f1([[0.0, 1.0]], [0, 1]), "float64"),
        (lambda: macro_f1([["a", "b"]], [0, 1]), "integers from 0 on"),
        (lambda: macro_f1([[0, -1]], [0, 1]), "class number -1"),
        (lambda: macro_f1(np.zeros((3, 0), int), np.zeros(0, int)), r"\(3, 0\)"),
        (lambda: accuracy([[0, 1]], [0, 1], [[1, 1, 1]]), r"\(1, 3\).*2 test examples"),
        (lambda: accuracy([[0, 1]], [0, 1], [[1, -1]]), "at least 0"),
        (lambda: macro_f1([], []), "predictions is empty"),
        (lambda: majority_score([]), "gold is empty"),
        (lambda: majority_score([[0, 1]]), r"gold must have the axes \(N\)"),
        (lambda: failed_runs([], chance=0.1), "scores is empty"),
        (lambda: failed_runs([0.5, 0.6]), "chance"),
        (lambda: failed_runs([0.5, np.nan], chance=0.1), "1 NaN"),
        (lambda: failed_runs([0.5, np.inf], chance=0.1), "finite"),
        (lambda: failed_runs([0.5, 0.6], share=70), "between 0 and 1, not 70"),
    ],
)
def test_wrong_arrays_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_ten_thousand_weighted_scores_of_twenty_seeds_take_seconds():
    generator = np.random.default_rng(0)
    gold, predictions = generator.integers(77, size=2000), generator.integers(77, size=(20, 2000))
    weights = generator.integers(3, size=(500, 2000)).astype(float)
    start = time.process_time()
    macro_f1(predictions, gold, weights)
    assert time.process_time() - start < 1.5  # 20 such parts make 10,000 resamples; measured: 0.05
