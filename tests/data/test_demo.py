from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from deni.data import check_trainable, choose_balanced, read_texts
from deni.data.demo import demo_files
from deni.errors import InputWarning
from scripts.demo_texts.make import ROWS, make, write


def test_the_script_writes_the_committed_files_to_the_byte(tmp_path):
    write(tmp_path)
    for committed in demo_files():
        assert (tmp_path / committed.name).read_bytes() == committed.read_bytes()


def test_another_seed_makes_other_texts():
    assert make(1) != make(2)


def test_every_label_has_its_rows_on_both_sides():
    train, test = map(read_texts, demo_files())
    assert Counter(train.labels) == {label: rows for label, (rows, _) in ROWS.items()}
    assert Counter(test.labels) == {label: rows for label, (_, rows) in ROWS.items()}
    assert (len(train), len(test)) == (648, 430)


def test_no_sentence_comes_twice_but_for_nine_written_in_another_way():
    train, test = map(read_texts, demo_files())
    texts = [text.casefold() for text in train.texts + test.texts]
    assert len(set(texts)) == len(texts)
    with pytest.warns(InputWarning) as caught:
        check_trainable(train, test)
    assert [str(each.message).partition(": ")[2][:40] for each in caught] == [
        "9 of 430 test texts are also in the trai"
    ]


def test_no_slot_was_left_open():
    for read in map(read_texts, demo_files()):
        assert [text for text in read.texts if "{" in text or "}" in text or "  " in text] == []


def test_words_alone_tell_the_labels_neither_at_chance_nor_perfectly():
    train, test = map(read_texts, demo_files())
    scores = []
    for seed in range(5):
        chosen = train.select(choose_balanced(train.labels, 150, np.random.default_rng(seed)))
        words = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)).fit(chosen.texts, chosen.labels)
        scores.append(f1_score(test.labels, words.predict(test.texts), average="macro"))
    assert 0.5 < np.mean(scores) < 0.75  # chance is 0.17
