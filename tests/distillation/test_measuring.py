"""Teacher and student on the same texts, and the lines about them."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from deni.data import Texts
from deni.distillation.measuring import compare_on_test, rows_of
from deni.distillation.student import likeness
from deni.finetune import Evaluation
from deni.measures import other_texts


def test_intervals_are_those_of_a_bootstrap_over_texts():
    """Of the share of right texts, which numbers of one class each are enough for."""

    class Teacher:
        task, labels = "single_label", ["a", "b"]

        def votes(self, texts):
            return np.log([[0.9, 0.1] if "a" in text else [0.2, 0.8] for text in texts])

    texts = Texts(["a 1", "b 1", "a 2", "b 2", "b 3", "a 3"], ["a", "b", "b", "b", "b", "a"], "t.csv", None)
    votes = np.log([[0.9, 0.1]] * 6)
    found = compare_on_test(Teacher(), Evaluation(texts, [], votes[:, None], votes, {}))
    gold = np.array([0, 1, 1, 1, 1, 0])
    for name, chosen in (("teacher", np.array([0, 1, 0, 1, 1, 0])), ("student", np.zeros(6, int))):
        assert found[name]["score"] == pytest.approx(f1_score(gold, chosen, average="macro"))

        def score(weights, chosen=chosen):
            return np.array(
                [f1_score(gold, chosen, average="macro", sample_weight=each, zero_division=0) for each in weights]
            )

        low, high = other_texts(score, np.ones(6), generator=np.random.default_rng(1), resamples=400)
        assert found[name]["low"] == pytest.approx(low, abs=0.12)
        assert found[name]["high"] == pytest.approx(high, abs=0.12)


INFO = {
    "settings": {"labels_share": 0.5},
    "pool": {"read": 20, "left_out": {"test": 3, "repeated": 1}, "used": 10, "held_out": 2, "augmented": 0},
    "labeled": {"texts": 8, "out_of_fold": 8},
    "teacher": {"members": 10, "member_steps": 12500, "seconds": 61.2},
    "member_steps": 2500,
    "seconds": 20.0,
    "agreement": 0.5,
}


def test_lines_say_what_was_used_left_out_and_spent():
    teacher = {**INFO["teacher"], "folds": {"member_steps": 5000, "seconds": 30.4}}
    assert dict(rows_of({**INFO, "teacher": teacher}, "single_label")) == {
        "pool": "10 of 20 texts used; left out: 3 in the test split, 1 repeated; 2 held out, 4 more than the steps "
        "allow",
        "labeled texts": "8, 8 with 50.0% label and the rest out-of-fold prediction",
        "student as the teacher": "50.0% on 2 texts of the pool that were held out",
        "cost of both": "teacher 12,500 member-steps in 61 seconds, 10 models to predict; folds 5,000 member-steps "
        "in 30 seconds; student 2,500 member-steps in 20 seconds, 1 model to predict",
    }


@pytest.mark.parametrize(
    ("labeled", "expected"),
    [
        ({"texts": 0, "out_of_fold": 0}, "none given: the student learns from the pool alone"),
        (
            {"texts": 8, "out_of_fold": 0},
            "8, with their labels alone: the teacher has no out-of-fold predictions for them (--cv 5)",
        ),
        (
            {"texts": 8, "out_of_fold": 5, "left_out": {"test": 2}},
            "8, 5 with 50.0% label and the rest out-of-fold prediction; 3 with their labels alone; 2 left out, in the "
            "test split",
        ),
    ],
)
def test_labeled_texts_are_said_to_have_their_labels_alone(labeled, expected):
    assert dict(rows_of({**INFO, "labeled": labeled}, "single_label"))["labeled texts"] == expected


def test_a_teacher_of_another_library_has_no_cost():
    rows = dict(rows_of({**INFO, "teacher": {"members": 1}}, "regression"))
    assert rows["cost of both"].startswith("teacher unknown steps, 1 model to predict; student 2,500")
    assert rows["student as the teacher"] == "correlation 0.500 on 2 texts of the pool that were held out"


def test_likeness_is_the_share_of_equal_choices_or_a_correlation():
    one, other = np.log([[0.9, 0.1], [0.2, 0.8]]), np.log([[0.6, 0.4], [0.7, 0.3]])
    assert likeness(one, other, "single_label") == 0.5
    assert likeness(np.array([[1.0, -1], [1, 1]]), np.array([[1.0, 1], [1, 1]]), "multi_label") == 0.75
    numbers, others = np.array([[1.0], [2.0], [4.0]]), np.array([[1.0], [3.0], [3.0]])
    assert likeness(numbers, others, "regression") == pytest.approx(np.corrcoef([1, 2, 4], [1, 3, 3])[0, 1])
    assert likeness(numbers[:1], others[:1], "regression") is None
