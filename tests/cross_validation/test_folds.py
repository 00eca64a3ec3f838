"""Folds are stratified, equal texts stay together, and all folds train on as many texts."""

import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from deni.cross_validation.folds import check_folds, divide, training_rows
from deni.data import Texts
from deni.errors import InputWarning, SettingError


def some(labels, texts=None, task="single_label"):
    texts = texts or [f"text {at}" for at in range(len(labels))]
    frame = pd.DataFrame({"text": texts}, index=pd.RangeIndex(2, len(labels) + 2, name="line"))
    return Texts(texts, list(labels), "file", frame, task)


def test_each_class_is_divided_as_evenly_as_whole_texts_allow():
    labels = ["a"] * 23 + ["b"] * 11 + ["c"] * 5
    folds = divide(some(labels), 5, seed=0)
    counts = Counter(zip(labels, folds.tolist(), strict=True))
    for label, total in Counter(labels).items():
        assert {counts[label, fold] for fold in range(5)} <= {total // 5, -(-total // 5)}
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 1


def test_the_division_is_that_of_scikit_learn_and_follows_the_seed():
    labels = ["a", "b"] * 10
    first, again, other = (divide(some(labels), 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    for _, left_out in StratifiedKFold(4, shuffle=True, random_state=0).split(labels, labels):
        assert Counter(labels[at] for at in left_out) in [
            Counter(labels[at] for at in np.flatnonzero(first == fold)) for fold in range(4)
        ]


def test_equal_texts_are_left_out_together():
    texts = [f"text {at % 12}" for at in range(30)]
    folds = divide(some(["a", "b"] * 15, texts), 3, seed=0)
    assert all(len({folds[at] for at in range(30) if texts[at] == text}) == 1 for text in texts)


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("regression", [float(at) for at in range(20)]),
        ("multi_label", [("a", "b") if at % 2 else ("a",) for at in range(20)]),
        ("multi_label", [()] * 20),
    ],
)
def test_other_labels_are_divided_into_folds_of_one_size(task, labels):
    assert np.bincount(divide(some(labels, task=task), 5, seed=0)).tolist() == [4] * 5


def test_a_rare_label_of_several_is_in_each_fold():
    labels = [("a", "rare") if at % 4 == 0 else ("a",) for at in range(20)]
    folds = divide(some(labels, task="multi_label"), 5, seed=3)
    assert sorted(folds[::4].tolist()) == [0, 1, 2, 3, 4]


def test_smaller_folds_see_some_of_their_texts_twice():
    fold_of = np.array([0, 0, 0, 1, 1, 2, 2])
    rows = training_rows(fold_of, seed=0)
    assert [len(each) for each in rows] == [5, 5, 5]
    for fold, each in enumerate(rows):
        assert set(each.tolist()) == set(np.flatnonzero(fold_of != fold).tolist())
    assert max(Counter(rows[0].tolist()).values()) == 2
    assert max(Counter(rows[1].tolist()).values()) == 1


def test_a_class_of_one_text_warns():
    with pytest.warns(InputWarning, match="only one text has the label 'c'"):
        check_folds(some(["a"] * 6 + ["b"] * 6 + ["c"]), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        divide(some(["a"] * 6 + ["b"] * 6 + ["c"]), 3, seed=0)


@pytest.mark.parametrize(
    ("labels", "folds", "said"),
    [(["a", "b"] * 10, 11, "22 different texts"), (["a", "b", "c", "d"] * 3, 4, "at most 3 folds")],
)
def test_what_cannot_be_divided_is_refused(labels, folds, said):
    with pytest.raises(SettingError, match=said):
        check_folds(some(labels), folds)
