"""How often the cells of a study tokenize their texts."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from transformers import PreTrainedTokenizerBase

from deni.commands.study import plan_study, run_study
from deni.data import read_texts
from deni.models.loading import load_tokenizer
from deni.models.token_cache import TokenCache
from deni.models.tokenizing import choose_max_length, tokenize
from deni.study.execution.pack import run_pack
from deni.study.library import Library
from deni.study.store.database import Store
from tests.helpers.studies import jobs_of


@pytest.fixture
def tokenized(monkeypatch):
    """Counts the texts that any tokenizer is given."""
    counts, call = [], PreTrainedTokenizerBase.__call__

    def counting(self, text=None, *args, **options):
        counts.append(len(text) if isinstance(text, list) else 1)
        return call(self, text, *args, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", counting)
    return counts


@pytest.mark.parametrize("given", [{}, {"strategies": ["default", {"name": "deni", "members": 2}]}], ids=["one", "two"])
def test_a_study_tokenizes_its_texts_once(study, tokenized, given):
    jobs = jobs_of(study(**given))
    train, measured = jobs[0].texts(Library())
    tokenized.clear()
    shared = Library()
    together = [run_pack([job], shared)[0] for job in jobs]
    tried = 10 * len(jobs)  # each training tries its model on a text or two, and eight texts for NaN
    assert sum(tokenized) == 2 * len(train) + len(measured) + tried  # for the length, for the rows; to measure
    for job, result in zip(jobs, together, strict=True):
        (alone,) = run_pack([job], Library())
        np.testing.assert_array_equal(result.log_probs, alone.log_probs)


def test_another_length_is_tokenized_anew(tickets, model_folder, tokenized):
    texts, tokenizer = read_texts(tickets), load_tokenizer(model_folder)
    labels = sorted(set(texts.labels))
    with TokenCache().used():
        short, long = (tokenize(texts, tokenizer, length, labels) for length in (4, 8))
        assert max(map(len, short["input_ids"])) == 4 < max(map(len, long["input_ids"]))
        tokenized.clear()
        assert tokenize(texts, tokenizer, 4, labels) is short
        assert tokenized == []
        turned = tokenize(texts, tokenizer, 4, labels[::-1])
        assert turned["labels"] != short["labels"]
        other = dataclasses.replace(texts, labels=texts.labels[::-1])
        assert tokenize(other, tokenizer, 4, labels)["labels"] == short["labels"][::-1]
        weighed = dataclasses.replace(texts, weights=np.full(len(texts), 0.5))
        assert set(tokenize(weighed, tokenizer, 4, labels)["sample_weight"]) == {0.5}
    assert tokenize(texts, tokenizer, 4, labels) is not short  # outside nothing is kept


def test_lengths_are_counted_once_and_warned_of_each_time(tickets, model_folder, tokenized):
    texts, tokenizer = read_texts(tickets), load_tokenizer(model_folder)
    with TokenCache().used():
        for _ in range(2):
            with pytest.warns(UserWarning, match="longer"):
                assert choose_max_length(tokenizer, texts, 4, 40) == 4
    assert sum(tokenized) == len(texts)


def test_what_was_used_longest_ago_is_forgotten():
    cache, made = TokenCache(most=25), []

    def get(key):
        return cache.get(key, lambda: made.append(key) or key * 10, len)

    for key in "abacab":  # b goes when c comes, then c
        assert get(key) == key * 10
    assert "".join(made) == "abcb"
    assert cache.bytes == 20
    assert cache.get("d", lambda: "d" * 30, len) == "d" * 30  # too large to be kept
    assert cache.bytes == 0


def test_a_second_study_in_one_process_reads_the_file_as_it_is_then(study, tickets, tmp_path):
    file, store = tmp_path / "texts.csv", tmp_path / "study.db"
    frame = pd.read_csv(tickets)
    for labels in (frame["label"], frame["label"].iloc[::-1].to_numpy()):
        frame.assign(label=labels).to_csv(file, index=False)
        planned, run = plan_study(study(datasets=[{"path": str(file)}], seeds=1), store, threads=1, progress=False)
        assert run_study(planned, run, store).done == 1
        (job,) = planned.jobs
        with Store(store) as opened:
            (row,) = [each for each in opened.results() if each.key == job.key]
        assert row.fingerprint == job.decides["fingerprints"]["data"]
