"""Suggestions of a trained model: what repeats or is unlike the labeled texts is apart, and each has a reason."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deni.artifact import digests_of, load
from deni.artifact.scope import Scope
from deni.data import Texts
from deni.errors import InputError
from deni.labeling.choosing import uncertainty
from deni.labeling.suggesting import suggest
from deni.tasks import find_task
from tests.helpers.tiny import toy_rows

ARTIFACTS = Path(__file__).parents[1] / "artifact" / "format_1"


def pool_of(texts, task="single_label", source="pool.csv"):
    frame = pd.DataFrame({"text": texts}, index=pd.RangeIndex(2, len(texts) + 2, name="line"))
    return Texts(texts, None, source, frame, task)


@pytest.fixture(scope="module")
def classifier():
    return load(ARTIFACTS / "lora_deni", "cpu")


def test_what_repeats_others_is_apart_and_says_which(classifier):
    texts = ["My parcel!", "where is it", "my  parcel", "the password", "an invoice", "Where is it?"]
    labeled = pool_of(["AN INVOICE", "a box"], source="tickets.csv")
    found = suggest(classifier, pool_of(texts), 50, labeled, digests_of(["the password"]))
    assert found.apart == {
        2: "repeats line 2",
        3: "is labeled: the model was trained on it",
        4: "repeats line 2 of tickets.csv",
        5: "repeats line 3",
    }
    assert sorted(found.rows) == [0, 1]


def test_scores_are_the_uncertainty_and_reasons_name_the_two_likeliest_classes(classifier):
    texts = list(dict.fromkeys(text for text, _ in toy_rows(10)))
    found = suggest(classifier, pool_of(texts), 5)
    votes = classifier.votes(texts)
    expected = uncertainty(find_task("single_label"), votes[:, None], votes)
    np.testing.assert_allclose(found.scores, expected[found.rows])
    assert found.scores == sorted(found.scores, reverse=True)
    for row, why in zip(found.rows, found.why, strict=True):
        first, second = np.argsort(-votes[row])[:2]
        chances = [f"{classifier.labels[at]} {np.exp(votes[row, at]):.1%}" for at in (first, second)]
        assert why.partition(";")[0] == ", ".join(chances)
    assert suggest(classifier, pool_of(texts), 5) == found


@pytest.mark.parametrize(
    ("name", "texts", "why"),
    [
        ("multi_label", ["parcel late", "invoice money", "a", "the box"], "%"),
        ("regression", ["parcel late", "invoice money", "a", "the box"], "members say"),
        ("token", [("Anna", "left"), ("Berlin", "is", "far"), ("a",), ("it",)], ": "),
        ("pair", [("a", "b"), ("parcel", "box"), ("b", "a"), ("it", "is")], "%, "),
    ],
)
def test_other_kinds_have_reasons_of_their_own(name, texts, why):
    model = load(ARTIFACTS / name, "cpu")
    found = suggest(model, pool_of(texts, model.task), 2)
    assert len(set(found.rows)) == 2
    assert all(why in each for each in found.why)


def test_numbers_of_one_model_are_refused(monkeypatch):
    model = load(ARTIFACTS / "regression", "cpu")
    model.voters = [0]
    with pytest.raises(InputError, match="train members"):
        suggest(model, pool_of(["a", "b"], model.task), 1)


def test_a_pool_of_labeled_texts_alone_has_nothing_to_suggest(classifier):
    found = suggest(classifier, pool_of(["a box"]), 5, pool_of(["A box."]))
    assert (found.rows, found.scores, found.why, list(found.apart)) == ([], [], [], [0])


def test_texts_out_of_the_scope_of_the_model_are_apart(classifier):
    texts = list(dict.fromkeys(text for text, _ in toy_rows(10)))
    features = classifier.features(texts)
    scope = Scope.of(features[:20])
    expected = [row for row, percent in enumerate(scope.percentiles(features)) if percent >= 99]
    assert 0 < len(expected) < len(texts)
    classifier.labeled = scope
    try:
        found = suggest(classifier, pool_of(texts), 5)
    finally:
        classifier.labeled = None
    assert found.apart == dict.fromkeys(expected, "unlike the labeled texts")
    assert not set(found.rows) & set(expected)
