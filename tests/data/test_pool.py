"""What is left out of a pool, and that nothing that is measured on stays in it."""

import pandas as pd
import pytest

from deni.artifact import digests_of
from deni.data import Texts, read_data
from deni.data.checks import leaks
from deni.data.pool import make_pool, sentence
from deni.errors import InputError, SettingError


def texts(*given, labels=None, source="pool.csv", task="single_label"):
    return Texts(list(given), labels, source, None, task)


LABELED = texts("where is my parcel", labels=["delivery"], source="labeled.csv")
TEST = texts("reset my password", "my card is charged", labels=["login", "billing"], source="test.csv")


def test_each_text_is_left_out_for_one_reason_and_counted():
    pool = make_pool(
        texts("Where is my parcel?!", "RESET my password", "late courier", "Late  courier.", "new box", "a dev text"),
        LABELED,
        test=TEST,
        dev=texts("a dev text", labels=["x"]),
        digests=digests_of(["new box"]),
        empty=3,
    )
    assert pool.texts.texts == ["late courier"]
    assert pool.left_out == {"empty": 3, "test": 1, "dev": 1, "labeled": 2, "repeated": 1}
    assert pool.read == 9 == len(pool) + sum(pool.left_out.values())
    assert pool.texts.labels is None


def test_the_guard_finds_what_inspect_finds():
    """No finding of `deni inspect` about test texts in the training split is left."""
    given = texts(
        "RESET my password", "Reset my password!", "my card is charged", "ｍｙ card", "other", "reset password"
    )
    found = leaks(given, TEST)
    assert {each.kind: each.count for each in found} == {"leaks": 1, "near_leaks": 1}
    pool = make_pool(given, test=TEST)
    assert leaks(pool.texts, TEST) == []
    assert pool.texts.texts == ["ｍｙ card", "other", "reset password"]


def test_augmented_texts_join_the_pool_and_pass_the_guard():
    augmented = {LABELED.texts[0]: ["my card, is charged", "a late one"]}
    pool = make_pool(texts("late courier"), LABELED, test=TEST, augmented=augmented)
    assert pool.texts.texts == ["late courier", "a late one"]
    assert (pool.read, pool.left_out) == (3, {"test": 1})


@pytest.mark.parametrize("split", ["test", "dev"])
def test_what_was_made_from_a_text_that_is_measured_on_is_left_out(split):
    measured = TEST.texts[0]
    augmented = {measured.upper(): ["nothing like it", "nor this"], "late courier": ["too late"]}
    pool = make_pool(texts(f"{measured} again"), LABELED, **{split: TEST}, augmented=augmented)
    assert pool.texts.texts == [f"{measured} again", "too late"]
    assert pool.left_out == {split: 2}


def test_words_and_pairs():
    words = texts(("Anna", "left"), ("anna", "left"), ("it", "rains"), task="token")
    test = texts(("It", "rains"), labels=[("O", "O")], task="token")
    found = make_pool(words, test=test, augmented={"he leaves": ["he left"]})
    assert found.texts.texts == [("Anna", "left"), ("he", "left")]
    pairs = texts(("a b", "c"), ("a", "b c"), ("A b", "c!"))
    assert make_pool(pairs).texts.texts == [("a b", "c"), ("a", "b c")]  # one text in two places is not a copy
    with pytest.raises(SettingError, match="augmented texts are single ones"):
        make_pool(pairs, augmented={"b": ["a"]})
    with pytest.raises(InputError, match=r"test.csv has single texts, and so must the pool"):
        make_pool(pairs, test=TEST)


def test_a_pool_of_nothing_says_why():
    with pytest.raises(InputError, match=r"none of 2 texts can serve \(2 in the test split\): give others"):
        make_pool(texts("reset my password", "Reset My Password"), test=TEST)


def test_sentence_adds_up():
    assert sentence({}, 10, 10) == "10 of 10 texts used"
    assert sentence({"labeled": 3}, 10, 7) == "7 of 10 texts used; left out: 3 labeled already"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rows_without_a_text_are_counted_where_a_pool_is_read(tmp_path, suffix):
    file = tmp_path / f"pool.{suffix}"
    frame = pd.DataFrame({"text": ["one", "", "  ", "two"]})
    frame.to_csv(file, index=False) if suffix == "csv" else frame.to_json(file, orient="records", lines=True)
    counts = []
    found = read_data(file, labels=False, on_blank=counts.append)
    assert (found.texts, counts) == (["one", "two"], [2])
    assert found.row(1) == ("line 5" if suffix == "csv" else "line 4")
    with pytest.raises(InputError, match="empty text"):
        read_data(file, labels=False)


def test_blank_sides_of_pairs_and_lists_of_words(tmp_path):
    pd.DataFrame({"text": ["a", "b"], "other": [" ", "c"]}).to_csv(tmp_path / "pairs.csv", index=False)
    counts = []
    found = read_data(tmp_path / "pairs.csv", text_pair_column="other", labels=False, on_blank=counts.append)
    assert (found.texts, counts) == ([("b", "c")], [1])
    (tmp_path / "words.jsonl").write_text('{"text": ["it", "rains"]}\n{"text": []}\n{"text": null}\n')
    found = read_data(tmp_path / "words.jsonl", labels=False, task="token", on_blank=counts.append)
    assert (found.texts, counts) == ([("it", "rains")], [1, 2])
    (tmp_path / "none.csv").write_text('text\n" "\n')
    with pytest.raises(InputError, match="all 1 texts are empty"):
        read_data(tmp_path / "none.csv", labels=False, on_blank=counts.append)
