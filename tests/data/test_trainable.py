"""What is checked before training."""

import warnings

import pandas as pd
import pytest

from deni.data import Texts, check_trainable
from deni.errors import InputError, InputWarning


def labelled(*rows: tuple[str, str], source: str = "train.csv") -> Texts:
    frame = pd.DataFrame(rows, columns=["text", "label"], index=pd.RangeIndex(2, len(rows) + 2, name="line"))
    return Texts([text for text, _ in rows], [label for _, label in rows], source, frame)


def test_one_class_cannot_be_trained():
    with pytest.raises(InputError) as caught:
        check_trainable(labelled(("hi", "a"), ("ho", "a")))
    assert str(caught.value) == (
        "train.csv: all 2 texts have the label 'a'; training needs at least two classes: "
        "add texts of another class or name another --label-column"
    )


def test_unlabelled_texts_cannot_be_trained():
    with pytest.raises(
        InputError, match=r"^train.csv: the texts have no labels; name their column with --label-column$"
    ):
        check_trainable(Texts(["hi"], None, "train.csv", pd.DataFrame({"text": ["hi"]})))


def test_sound_texts_pass_in_silence():
    train = labelled(("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("b2", "b"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_trainable(train, labelled(("c1", "a"), source="test.csv"))


def test_a_class_of_one_text_warns():
    with pytest.warns(InputWarning) as caught:
        check_trainable(labelled(("a1", "a"), ("a2", "a"), ("b1", "b")))
    assert [str(w.message) for w in caught] == [
        "train.csv: only one text has the label 'b'; add more or drop the class"
    ]


def test_equal_texts_with_different_labels_warn_with_count_and_example():
    rows = [("x", "b"), ("x", "a"), ("x", "a"), ("y", "a"), ("y", "b"), ("z", "a"), ("z", "a")]
    with pytest.warns(InputWarning) as caught:
        check_trainable(labelled(*rows))
    assert [str(w.message) for w in caught] == [
        "train.csv: 2 texts occur with different labels, such as 'x' with 'a', 'b'; keep one label for each"
    ]


def test_test_texts_that_were_trained_on_warn_with_count_and_line():
    train = labelled(("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))
    test = labelled(("new", "a"), ("b1", "b"), ("a1", "a"), source="test.csv")
    with pytest.warns(InputWarning) as caught:
        check_trainable(train, test)
    assert [str(w.message) for w in caught] == [
        "test.csv: 2 of 3 test texts are also in the training split, the first at line 3; "
        "scores on them say little, so drop them from one side"
    ]


def test_a_test_class_that_was_never_trained_is_refused():
    train = labelled(("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))
    with pytest.raises(
        InputError, match=r"^test.csv: no text of train.csv has the label 'c', so it cannot be learned: add"
    ):
        check_trainable(train, labelled(("c1", "c"), source="test.csv"))
