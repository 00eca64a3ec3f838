"""Both texts of a pair lie beside each other, padded to the longer one; all of them are in the active vocabulary."""

import pytest
import torch
from transformers import AutoTokenizer

from deni.data import Texts
from deni.engine.active_tokens import token_ids
from deni.errors import InputError
from deni.models.pair_rows import PairCollator, check_pairs, longer_side, pair_batch, pair_rows, side_by_side
from deni.models.tokenizing import choose_max_length, tokenize

PAIRS = [("where is my parcel", "late"), ("refund", "the screen is locked please"), ("a code", "a code")]


@pytest.fixture
def tokenizer(model_folder):
    return AutoTokenizer.from_pretrained(model_folder)


@pytest.mark.parametrize("side", ["right", "left"])
def test_each_side_is_what_the_tokenizer_makes_of_its_texts(tokenizer, side):
    tokenizer.padding_side = side
    for padding, length in (("longest", None), ("max_length", 6)):
        batch = pair_batch(tokenizer, PAIRS, 6, padding)
        for at in (0, 1):
            texts = [pair[at] for pair in PAIRS]
            longest = max(longer_side(tokenizer, PAIRS))
            expected = tokenizer(
                texts,
                truncation=True,
                max_length=6 if length else min(6, longest),
                padding="max_length",
                return_tensors="pt",
            )
            assert batch.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(batch[name][..., at], value)


def test_rows_of_a_dataset_collate_to_the_same(tokenizer):
    texts = Texts(PAIRS, ["a", "b", "a"], "file", None)
    data = tokenize(texts, tokenizer, 6, ["a", "b"], separately=True)
    rows = [{name: row[name] for name in row if not name.startswith("text")} for row in data]
    batch = PairCollator(tokenizer)(rows)
    assert batch.pop("labels").tolist() == [0, 1, 0]
    expected = pair_batch(tokenizer, PAIRS, 6)
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    floats = PairCollator(tokenizer)([{**row, "labels": [0.0, 1.0]} for row in rows])
    assert floats["labels"].dtype == torch.float32


def test_the_tokens_of_both_texts_are_active(tokenizer):
    data = tokenize(Texts(PAIRS, ["a", "b", "a"], "file", None), tokenizer, 16, ["a", "b"], separately=True)
    expected = {token for pair in PAIRS for text in pair for token in tokenizer(text)["input_ids"]}
    found = set(token_ids([data]).tolist())
    assert found == expected | {tokenizer.pad_token_id}
    as_tensors = [{"input_ids": torch.tensor(row)} for row in data["input_ids"]]
    assert set(token_ids([as_tensors]).tolist()) == found


def test_a_text_of_a_pair_has_max_length_tokens_by_itself(tokenizer):
    assert longer_side(tokenizer, PAIRS) == [
        len(tokenizer(text)["input_ids"]) for text in (PAIRS[0][0], PAIRS[1][1], PAIRS[2][0])
    ]
    texts = Texts(PAIRS, ["a", "b", "a"], "file", None)
    assert choose_max_length(tokenizer, texts, None, 40, True) < choose_max_length(tokenizer, texts, None, 40)
    rows = pair_rows(tokenizer, PAIRS, 4)
    assert [len(row) for row in rows["input_ids"]] == [min(4, length) for length in longer_side(tokenizer, PAIRS)]


def test_a_text_beside_itself():
    assert side_by_side(torch.tensor([[1, 2]])).tolist() == [[[1, 1], [2, 2]]]


def test_single_texts_are_refused():
    check_pairs(Texts(PAIRS, None, "file", None))
    with pytest.raises(InputError, match="file: pairs cannot be bi, each row has one text"):
        check_pairs(Texts(["one"], None, "file", None))
