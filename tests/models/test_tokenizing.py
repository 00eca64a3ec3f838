"""Columns of a training set."""

import dataclasses

import numpy as np
import pytest

from deni.data import Texts
from deni.errors import InputError
from deni.models.loading import load_tokenizer
from deni.models.tokenizing import tokenize

SOFT = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])


@pytest.fixture
def tokenizer(model_folder):
    return load_tokenizer(model_folder)


def made(**fields):
    return Texts(["refund money", "parcel late", "late money"], ["a", "b", "b"], "t.csv", None, **fields)


def test_soft_labels_and_weights_of_texts_are_columns(tokenizer):
    columns = tokenize(made(soft=SOFT, weights=np.array([1.0, 0.5, 2.0])), tokenizer, 8, ["a", "b"])
    assert list(columns["soft_labels"]) == SOFT.tolist()
    assert list(columns["sample_weight"]) == [1.0, 0.5, 2.0]
    assert list(columns["labels"]) == [0, 1, 1]
    assert not {"soft_labels", "sample_weight"} & set(tokenize(made(), tokenizer, 8, ["a", "b"]).column_names)


def test_soft_labels_of_words_are_at_their_first_tokens(tokenizer):
    words = [("refund", "qqq", "money"), ("parcel",)]
    soft = [[[0.2, 0.8], [0.3, 0.7], [0.4, 0.6]], [[1.0, 0.0]]]
    texts = Texts(words, [("O", "B-X", "O"), ("B-X",)], "t.csv", None, "token", soft=soft)
    rows = tokenize(texts, tokenizer, 16, ["B-X", "O"])
    for row, gold in zip(rows, soft, strict=True):
        labels, targets = np.array(row["labels"]), np.array(row["soft_labels"])
        assert targets.shape == (len(row["input_ids"]), 2)
        assert targets[labels != -100].tolist() == gold
        assert not targets[labels == -100].any()


def test_a_selection_of_texts_keeps_its_soft_labels_and_weights():
    chosen = made(soft=SOFT, weights=np.array([1.0, 0.5, 2.0])).select([2, 0])
    assert chosen.soft.tolist() == SOFT[[2, 0]].tolist()
    assert chosen.weights.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"soft": SOFT[:2]}, "soft of 2 texts for 3"),
        ({"weights": np.ones(4)}, "weights of 4 texts for 3"),
        ({"soft": np.ones((3, 3)) / 3}, r"text 1: soft labels have shape \(3,\), not \(2,\)"),
    ],
)
def test_soft_labels_that_do_not_fit_the_texts_are_refused(tokenizer, fields, message):
    with pytest.raises(InputError, match=message):
        tokenize(dataclasses.replace(made(), **fields), tokenizer, 8, ["a", "b"])
