"""Datasets that have a name, from the folder of DENI_DATA."""

import gzip
import os
import re
from pathlib import Path

import pytest

from deni.data import DATASETS, local_file, read_data, read_texts
from deni.errors import InputError

needs_data = pytest.mark.skipif("DENI_DATA" not in os.environ, reason="DENI_DATA names no folder of datasets")
DOCS = Path(__file__).parents[2] / "docs" / "data.md"
MRPC = "text,label\nSentence 1: A; b.; Sentence 2: C.,equivalent\nSentence 1: D.; Sentence 2: E.,not_equivalent\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DENI_DATA", str(tmp_path))

    def write(name, text):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))

    return write


def test_a_name_is_read_from_the_folder_of_the_variable(folder):
    folder("trec", "text,label\nWho?,human\nWhere?,location\n")
    texts = read_data("trec")
    assert (texts.texts, texts.labels) == (["Who?", "Where?"], ["human", "location"])
    assert read_data("trec", labels=False).labels is None


def test_a_pair_in_one_text_is_read_as_a_pair_unless_one_text_is_wanted(folder):
    folder("mrpc", MRPC)
    texts = read_data("mrpc")
    assert texts.texts == [("A; b.", "C."), ("D.", "E.")]
    assert texts.frame[["text", "text_pair"]].to_numpy().tolist() == [["A; b.", "C."], ["D.", "E."]]
    one = ["Sentence 1: A; b.; Sentence 2: C.", "Sentence 1: D.; Sentence 2: E."]
    assert read_data("mrpc", pairs=False).texts == read_data("mrpc", text_column="text").texts == one


def test_a_text_that_is_no_pair_is_named(folder):
    folder("mrpc", MRPC + "Sentence 1: only one.,equivalent\n")
    with pytest.raises(InputError, match=r"mrpc.csv.gz, line 4: 'Sentence 1: only one.' is not a pair; write"):
        read_data("mrpc")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trex", "trex: no such file, and no dataset of that name; did you mean trec?"),
        ("ticket", "did you mean tickets.csv?"),
        ("qqqq", "the datasets are ag_news, trec, snips,"),
    ],
)
def test_an_unknown_name_gets_a_hint(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets.csv").touch()
    with pytest.raises(InputError, match=re.escape(message)):
        read_data(name)


def test_a_file_has_no_split(tickets):
    with pytest.raises(InputError, match="--split and --config-name are for datasets of the Hub"):
        read_data(tickets, split="train")


def test_a_file_is_read_as_before(tickets):
    assert read_data(tickets) == read_texts(tickets)


@needs_data
@pytest.mark.parametrize("name", DATASETS)
def test_the_real_files_have_the_classes_of_the_table(name):
    if local_file(name) is None:
        pytest.skip(f"the folder has no {name}")
    texts = read_data(name)
    assert set(texts.labels) == set(DATASETS[name].classes)
    assert all(isinstance(text, tuple) == (DATASETS[name].pair is not None) for text in texts.texts)


def test_the_documented_table_is_that_of_the_code():
    rows = [[cell.strip("` ") for cell in line.strip("| \n").split("|")] for line in DOCS.read_text().splitlines()]
    table = {row[0]: row[1:] for row in rows if row[0] in DATASETS}
    for name, each in DATASETS.items():
        hub = " ".join(filter(None, [each.hub, each.config]))
        texts = ", ".join(filter(None, [each.text, each.pair]))
        assert table[name] == [hub, each.split, texts, each.label, str(len(each.classes)), str(each.max_length)]
