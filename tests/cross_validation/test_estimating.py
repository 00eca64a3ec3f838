"""The estimate is the score of the pooled out-of-fold predictions, with an interval that knows its limits."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from deni.artifact import OutOfFold
from deni.cross_validation.estimating import estimate, interval, sentences
from deni.measures.folds import WIDENED, over_folds
from deni.tasks import find_task

TASK = find_task("single_label")


def found(chosen, gold, folds, **more):
    """Out-of-fold predictions that choose these classes, `(S, N)`."""
    chosen = np.atleast_2d(chosen)
    outputs = np.log(np.eye(3)[chosen] * 0.8 + 0.1)
    return OutOfFold({"vote": outputs, **more}, np.atleast_2d(folds), list(gold), [], ["a", "b", "c"])


@pytest.fixture
def drawn():
    generator = np.random.default_rng(1)
    gold, folds = generator.integers(3, size=60), np.arange(60) % 5
    wrong = generator.random((2, 60)) < 0.3
    return np.where(wrong, (gold + 1) % 3, gold), gold, np.stack([folds, np.roll(folds, 7)])


def test_it_is_the_pooled_score_and_the_widened_interval(drawn):
    chosen, gold, folds = drawn
    result = estimate(found(chosen, gold, folds), TASK)
    f1 = lambda right, predicted: f1_score(right, predicted, average="macro")  # noqa: E731
    pooled = [f1(gold, row) for row in chosen]
    assert result["score"] == pytest.approx(np.mean(pooled))
    pseudo = [
        5 * whole - 4 * f1(gold[of != fold], row[of != fold])
        for whole, row, of in zip(pooled, chosen, folds, strict=True)
        for fold in range(5)
    ]
    plain = over_folds(pseudo, 1 / 4)
    assert result["high"] - result["low"] == pytest.approx(WIDENED * (plain.high - plain.low))
    assert (result["high"] + result["low"]) / 2 == pytest.approx(result["score"])
    assert result["by_fold"][1][2] == pytest.approx(f1(gold[folds[1] == 2], chosen[1][folds[1] == 2]))
    accuracy = np.mean([accuracy_score(gold, row) for row in chosen])
    assert result["metrics"]["vote"]["accuracy"] == pytest.approx(accuracy)
    assert (result["folds"], result["divisions"], result["trained_on"]) == (5, 2, pytest.approx(0.8))
    assert json.loads(json.dumps(result)) == result


def test_the_merged_model_has_an_estimate_of_its_own(drawn):
    chosen, gold, folds = drawn
    right = found(np.stack([gold, gold]), gold, folds).outputs["vote"]
    result = estimate(found(chosen, gold, folds, merged=right), TASK)
    assert result["merged"]["score"] == 1 > result["score"]
    assert result["merged"]["high"] == 1
    assert "merged" not in estimate(found(chosen, gold, folds), TASK)


def test_without_an_error_the_interval_is_that_of_the_rule_of_three():
    gold = np.arange(60) % 3
    result = estimate(found(gold, gold, np.arange(60) % 5), TASK)
    assert (result["score"], result["low"], result["high"]) == (1, pytest.approx(1 - 3 / 60), 1)


def test_it_ends_at_what_a_score_can_be():
    ends = interval(0.9, np.array([[0.1, 1.0, 1.0]]), 3, 30, TASK)
    assert (ends["low"], ends["high"]) == (0, 1)
    ends = interval(0.2, np.array([[-3.0, 1.0, 1.0]]), 3, 30, find_task("regression"))
    assert ends["low"] == -1


def test_what_it_rests_on_is_said():
    assert sentences({"trained_on": 0.8}) == [
        "estimated by training on 80 % of the labels",
        "assumes that new texts come in the labels' mix of classes",
    ]
