"""Answering where an accuracy is supported: scipy's exact binomial test, a hand-written sequence, and simulation."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from deni.errors import InputError
from deni.measures import accuracy_bound, accuracy_coverage, answers_needed, choose_threshold
from deni.measures.selective import COVERAGES


@pytest.mark.parametrize(("answered", "errors"), [(59, 0), (93, 1), (200, 7), (30, 29)])
def test_the_bound_is_scipys_exact_one(answered, errors):
    test = binomtest(answered - errors, answered, alternative="greater")
    assert accuracy_bound(answered, errors) == pytest.approx(test.proportion_ci(0.95, "exact").low)


def test_no_right_answer_supports_nothing():
    assert accuracy_bound([5], [5]).tolist() == [0]


@pytest.mark.parametrize(("accuracy", "errors", "want"), [(0.95, 0, 59), (0.95, 1, 93), (0.99, 0, 299), (0.9, 3, 76)])
def test_the_number_that_supports_an_accuracy(accuracy, errors, want):
    assert answers_needed(accuracy, errors) == want
    # The first number of texts with which so few errors would be rare, were the accuracy only just too low.
    rare = [binom.cdf(errors, count, 1 - accuracy) <= 0.05 for count in (want - 1, want)]
    assert rare == [False, True]


def drawn(texts, seed, slope=0.5, power=3.0):
    """Confidences, and whether the answer is right: the less sure, the more errors."""
    generator = np.random.default_rng(seed)
    doubt = generator.random(texts)
    return 1 - doubt / 2, generator.random(texts) >= slope * doubt**power


def by_hand(confidence, right, accuracy, risk=0.05):
    """Fixed-sequence testing, literally: (coverage, answered, errors), or None."""
    best = None
    for coverage in COVERAGES:
        step = int(coverage * len(confidence) + 1e-9)
        ordered = sorted(confidence, reverse=True)
        threshold = ordered[step] if step < len(confidence) else 0.0
        mine = [hit for sure, hit in zip(confidence, right, strict=True) if sure > threshold]
        if not mine or accuracy ** len(mine) > risk:  # not even without an error
            continue
        errors = len(mine) - sum(mine)
        if binom.cdf(errors, len(mine), 1 - accuracy) > risk:
            return best
        best = (len(mine) / len(confidence), len(mine), errors)
    return best


@pytest.mark.parametrize(("texts", "rounded"), [(80, False), (200, False), (333, False), (200, True)])
def test_the_sequence_is_the_one_by_hand(texts, rounded):
    supported = 0
    for seed in range(20):
        confidence, right = drawn(texts, seed)
        confidence = confidence.round(1) if rounded else confidence
        want = by_hand(confidence, right, 0.95)
        if want is None:
            with pytest.raises(InputError):
                choose_threshold(confidence, right, 0.95)
            continue
        supported += 1
        found = choose_threshold(confidence, right, 0.95)
        assert (found.coverage, found.answered, found.errors) == pytest.approx(want)
        answered = confidence > found.threshold
        assert (answered.sum(), (answered & ~right).sum()) == (found.answered, found.errors)
    assert supported


def test_the_accuracy_is_below_the_target_no_more_often_than_the_risk():
    """Errors of 0.5 u^3 at doubt u: of the surest share c the true accuracy is 1 - c^3 / 8, which is 0.95 at 0.737."""
    wrong = answered = 0
    for seed in range(400):
        confidence, right = drawn(400, seed)
        try:
            found = choose_threshold(confidence, right, 0.95)
        except InputError:
            continue
        answered += 1
        share = 2 * (1 - found.threshold) if found.threshold else 1.0
        wrong += 1 - share**3 / 8 < 0.95
    assert answered > 320
    assert 0 < wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_a_model_that_never_reaches_the_target_is_answered_no_more_often_than_the_risk():
    """Confidence says nothing and 6 % are wrong: any answer at all is a mistake."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        confidence, right = generator.random(400), generator.random(400) >= 0.06
        try:
            choose_threshold(confidence, right, 0.95)
            wrong += 1
        except InputError:
            pass
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_the_curve_counts_errors_and_answers():
    confidence, right = drawn(200, seed=1)
    curve = accuracy_coverage(confidence, right)
    assert curve.coverage == pytest.approx(COVERAGES)
    for threshold, answered, errors in zip(curve.threshold, curve.answered, curve.errors, strict=True):
        assert (confidence > threshold).sum() == answered
        assert (~right[confidence > threshold]).sum() == errors
    assert curve.threshold[-1] == 0
    assert curve.accuracy[-1] == right.mean()
    assert curve.bound == pytest.approx(accuracy_bound(curve.answered, curve.errors))


def test_texts_of_equal_confidence_are_answered_together():
    confidence = np.repeat([0.9, 0.8], [90, 110])
    assert accuracy_coverage(confidence, np.ones(200, bool)).answered.tolist() == [90, 200]


@pytest.mark.parametrize(
    ("texts", "errors", "accuracy", "words"),
    [
        (40, 0, 0.95, "an accuracy of 0.95 takes 59 answers without an error, or 93 with one, and there are 40 .* 19"),
        (200, 0, 0.99, "0.99 takes 299 answers without an error, .* label at least 99 more"),
        (200, 2, 0.95, "the surest 60 of 200 labeled texts have 2 error.*with which it takes 124"),
    ],
)
def test_too_few_labels_are_refused_with_the_number_that_would_do(texts, errors, accuracy, words):
    confidence, right = np.linspace(1, 0.5, texts), np.arange(texts) >= errors
    with pytest.raises(InputError, match=words) as caught:
        choose_threshold(confidence, right, accuracy)
    assert len(str(caught.value).splitlines()) == 1


def test_what_does_not_fit_is_named():
    for call, words in [
        (lambda: choose_threshold([0.5], [1], 0.9), "booleans"),
        (lambda: choose_threshold([1.5], [True], 0.9), "from 0 to 1"),
        (lambda: choose_threshold([0.5], [True], 1.0), "accuracy must be between 0 and 1"),
    ]:
        with pytest.raises(InputError, match=words):
            call()
