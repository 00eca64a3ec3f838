"""Labels and words that pandas wrote as lists, and numbers that are spelled in two ways."""

import io
import json

import numpy as np
import pandas as pd
import pytest

from deni.data import read_texts
from tests.helpers.written_files import error_of, written

SEVERAL = [["late", "refund"], [], ["it's; late"[:4]], ['say "no"']]
TEXTS = ["one", "two", "three", "four"]


def csv_of(**columns):
    file = io.StringIO()
    pd.DataFrame(columns).to_csv(file, index=False)
    return file.getvalue()


@pytest.mark.parametrize("as_written", [str, json.dumps])
def test_lists_in_a_csv_are_the_labels_that_pandas_wrote(tmp_path, as_written):
    file = written(tmp_path, "a.csv", csv_of(text=TEXTS, label=list(map(as_written, SEVERAL))))
    assert read_texts(file, task="multi_label").labels == [tuple(sorted(labels)) for labels in SEVERAL]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".json"])
def test_lists_of_json_and_parquet_are_labels(tmp_path, suffix):
    frame = pd.DataFrame({"text": TEXTS, "label": SEVERAL})
    file = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_json(file, orient="records", lines=suffix == ".jsonl")
    assert read_texts(file, task="multi_label").labels == [tuple(sorted(labels)) for labels in SEVERAL]


def test_lists_of_numbers_are_labels_and_a_name_in_brackets_is_a_name(tmp_path):
    numbers = written(tmp_path, "a.csv", csv_of(text=["one", "two"], label=[[1, 2], [2]]))
    assert read_texts(numbers, task="multi_label").labels == [("1", "2"), ("2",)]
    names = written(tmp_path, "b.csv", csv_of(text=TEXTS, label=["[b]", "[/b]", "[1]", "x;[b]"]))
    assert read_texts(names, task="multi_label").labels == [("[b]",), ("[/b]",), ("[1]",), ("[b]", "x")]
    assert read_texts(names).labels == ["[b]", "[/b]", "[1]", "x;[b]"]


def test_one_label_a_text_refuses_lists_and_names_the_task_that_reads_them(tmp_path):
    file = written(tmp_path, "a.csv", csv_of(text=TEXTS, label=SEVERAL))
    assert error_of(file) == (
        f"{file}, line 2, column 'label': \"['late', 'refund']\" is a list where one label was expected; --task "
        "multi_label reads lists, else write the label alone"
    )
    assert "is a list where one label was expected" in error_of(file, task="ordinal", label_order=["late", "refund"])


def test_lists_without_commas_and_on_some_rows_only_are_refused(tmp_path):
    arrays = written(tmp_path, "a.csv", csv_of(text=["one", "two"], label=[np.array(["a", "b"]), np.array(["c"])]))
    message = error_of(arrays, task="multi_label")
    assert "line 2, column 'label': \"['a' 'b']\" is a list without commas, as NumPy prints arrays; write" in message
    assert "is a list without commas" in error_of(arrays)
    numbers = written(tmp_path, "n.csv", csv_of(text=["one", "two"], label=[np.array([1, 2]), np.array([30, 4])]))
    assert "'[1 2]' is a list without commas" in error_of(numbers, task="multi_label")
    mixed = written(tmp_path, "b.csv", csv_of(text=["one", "two"], label=["a;b", ["a"]]))
    assert error_of(mixed, task="multi_label") == (
        f"{mixed}, line 2, column 'label': 'a;b' is not a list, and other rows have lists such as \"['a']\": write all "
        "in one way"
    )


def test_a_label_of_a_list_is_one_name(tmp_path):
    rows = [{"text": "one", "label": ["a;b"]}]
    message = error_of(written(tmp_path, "a.json", json.dumps(rows)), task="multi_label")
    assert message.endswith("the label 'a;b' has a semicolon, which separates labels: rename it")
    nested = error_of(written(tmp_path, "b.json", json.dumps([{"text": "one", "label": [["a"]]}])), task="multi_label")
    assert nested.endswith("""['a'] is not a label; write "a;b", or a list such as ["a", "b"]""")


def test_words_and_tags_are_read_from_the_lists_that_pandas_wrote(tmp_path):
    words, tags = [["Anna", "isn't", "in", "New York"], ["No"]], [["B-PER", "O", "O", "B-LOC"], ["O"]]
    read = read_texts(written(tmp_path, "a.csv", csv_of(text=words, label=tags)), task="token")
    assert (list(read.texts), read.labels) == (list(map(tuple, words)), list(map(tuple, tags)))
    plain = written(tmp_path, "b.csv", csv_of(text=["[ Anna ]", "No"], label=["O B-PER O", "O"]))
    assert list(read_texts(plain, task="token").texts) == [("[", "Anna", "]"), ("No",)]
    arrays = written(tmp_path, "c.csv", csv_of(text=[np.array(each) for each in words], label=tags))
    assert "column 'text'" in error_of(arrays, task="token")
    assert "is a list without commas" in error_of(arrays, task="token")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1.0, 2], ["1", "1", "2"]),
        ([1, 2.5, 3.0], ["1", "2.5", "3"]),
        ([1.0, 2.0, 1.0], ["1.0", "2.0", "1.0"]),  # of floats alone, as they are written
        ([True, 1.0, "1.0"], ["True", "1.0", "1.0"]),
    ],
)
def test_one_number_is_one_label_however_json_spells_it(tmp_path, values, expected):
    rows = "\n".join(json.dumps({"text": f"text {at}", "label": value}) for at, value in enumerate(values))
    assert read_texts(written(tmp_path, "a.jsonl", rows)).labels == expected
    lists = "\n".join(json.dumps({"text": f"text {at}", "label": [value]}) for at, value in enumerate(values))
    file = written(tmp_path, "b.jsonl", lists)
    assert read_texts(file, task="multi_label").labels == [(label,) for label in expected]
