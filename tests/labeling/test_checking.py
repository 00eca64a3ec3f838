"""Labels of a file are checked by predictions of models that had not seen the text."""

import numpy as np
import pandas as pd
import pytest

from deni.artifact import OutOfFold, digests_of
from deni.data import Texts
from deni.errors import InputError
from deni.labeling.checking import by_encoder, by_out_of_fold, listed
from tests.helpers.tiny import toy_rows

TAGS = ["O", "B-LOC", "B-PER", "I-LOC", "I-PER"]


def texts_of(texts, labels, task="single_label"):
    frame = pd.DataFrame({"text": texts}, index=pd.RangeIndex(2, len(texts) + 2, name="line"))
    return Texts(texts, labels, "tickets.csv", frame, task)


def test_known_texts_have_their_out_of_fold_predictions_and_others_the_model_s_own():
    labels = ["billing", "delivery", "login"]
    texts, right = map(list, zip(*dict(toy_rows(14)).items(), strict=True))
    gold = np.array([labels.index(each) for each in right])
    known = np.arange(0, len(texts), 2)[::-1]
    # What was predicted out of fold for text 4 speaks against its label; the model itself is not asked about it.
    outputs = np.log(np.eye(3)[gold[known]] * 0.9 + 0.1 / 3)
    at = known.tolist().index(4)
    outputs[at] = np.log(np.eye(3)[(gold[4] + 1) % 3] * 0.9 + 0.1 / 3)
    kept = OutOfFold(
        {"vote": np.stack([outputs, outputs])},
        np.zeros((2, len(known)), int),
        gold[known].tolist(),
        digests_of([texts[at] for at in known]),
        labels,
    )
    asked = []

    def votes(some):
        asked.extend(some)
        return np.log(np.eye(3)[[gold[texts.index(each)] for each in some]] * 0.9 + 0.1 / 3)

    found = by_out_of_fold(kept, texts_of(texts, right), votes)
    assert asked == texts[1::2]
    assert [(each.text, each.suggested) for each in found] == [(4, labels[(gold[4] + 1) % 3])]
    (hotter,) = by_out_of_fold(kept, texts_of(texts, right).select(known), temperature=1.5)
    assert hotter.text == known.tolist().index(4)
    assert hotter.confidence == pytest.approx(1 / (1 + 2 * ((0.1 / 3) / (0.9 + 0.1 / 3)) ** (1 / 1.5)))
    (shown,) = listed(texts_of(texts, right), found)
    assert (shown.row, shown.text, shown.word, shown.given) == ("line 6", texts[4], None, right[4])


def test_words_are_taken_text_by_text():
    texts = [("Anna", f"left{at}", "Berlin") for at in range(30)]
    tags = [("B-PER", "O", "B-LOC")] * 29 + [("O", "O", "B-LOC")]
    gold = np.array([2, 0, 1] * 30)
    outputs = np.log(np.eye(5)[gold] * 0.9 + 0.02)[None]
    order = np.arange(30)[::-1]  # in the artifact the texts have another order
    kept = OutOfFold(
        {"vote": outputs},
        np.zeros((1, 90), int),
        gold.tolist(),
        digests_of([texts[at] for at in order]),
        TAGS,
        np.repeat(np.arange(30), 3),
    )
    (found,) = by_out_of_fold(kept, texts_of(texts, tags, "token"))
    assert (found.text, found.word, found.given, found.suggested) == (29, 0, "O", "B-PER")
    (shown,) = listed(texts_of(texts, tags, "token"), [found])
    assert (shown.word, shown.text) == ("Anna", "Anna left29 Berlin")


def test_a_frozen_encoder_finds_a_label_that_was_replaced(model_folder):
    texts, labels = map(list, zip(*dict(toy_rows(20)).items(), strict=True))
    right, labels[10] = labels[10], next(each for each in labels if each != labels[10])
    found = by_encoder(model_folder, texts_of(texts, labels), "cpu")
    assert 10 in [each.text for each in found[:5]]
    assert {each.suggested for each in found if each.text == 10} == {right}


def test_words_have_no_frozen_encoder_and_too_few_texts_no_folds(model_folder):
    with pytest.raises(InputError, match="train with --cv"):
        by_encoder(model_folder, texts_of([("a",)], [("O",)], "token"))
    with pytest.raises(InputError, match="too few texts"):
        by_encoder(model_folder, texts_of(["a", "b"], ["x", "y"]), "cpu")
