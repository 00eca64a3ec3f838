"""Texts and labels from columns."""

import json

import pandas as pd
import pytest

from deni.data import read_texts
from deni.errors import InputWarning
from tests.helpers.written_files import error_of, written


def test_null_and_na_stay_strings(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", "text,label\nnull,NA\nNaN,None\n"))
    assert (read.texts, read.labels) == (["null", "NaN"], ["NA", "None"])


def test_labels_become_stripped_strings(tmp_path):
    file = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["x", "y"], "label": [0, 1]}).to_parquet(file)
    assert read_texts(file).labels == ["0", "1"]
    assert read_texts(written(tmp_path, "a.csv", "text,label\nx, a\ny,a \n")).labels == ["a", "a"]
    assert read_texts(written(tmp_path, "a.jsonl", '{"text": "x", "label": true}')).labels == ["True"]


def test_columns_have_the_names_that_the_user_gives(tmp_path):
    file = written(tmp_path, "a.csv", "id,body,kind\n17,hi,a\n18,ho,b\n")
    read = read_texts(file, text_column="body", label_column="kind")
    assert (read.texts, read.labels) == (["hi", "ho"], ["a", "b"])
    assert read.frame["id"].tolist() == ["17", "18"]


def test_unlabelled_texts_have_no_labels(tmp_path):
    file = written(tmp_path, "a.csv", "text\nhi\n")
    assert read_texts(file, labels_required=False).labels is None
    assert read_texts(file, label_column=None).labels is None


def test_labels_that_are_not_required_are_read_where_all_are_there(tmp_path):
    assert read_texts(written(tmp_path, "a.csv", "text,label\nhi,a\n"), labels_required=False).labels == ["a"]
    assert read_texts(written(tmp_path, "a.csv", "text,label\nhi,\n"), labels_required=False).labels is None
    half = written(tmp_path, "a.csv", "text,label\nhi,a\nho,\n")
    with pytest.warns(InputWarning, match=r"a\.csv, line 3, column 'label': empty label, so no labels are read; fill"):
        assert read_texts(half, labels_required=False).labels is None


def test_a_missing_column_lists_the_others_and_names_the_flag(tmp_path):
    file = written(tmp_path, "a.csv", "body,kind\nhi,a\n")
    message = error_of(file)
    assert "no column 'text' among 'body', 'kind'; name the right one with --text-column" in message
    message = error_of(file, text_column="body")
    assert "no column 'label' among 'body', 'kind'; name the right one with --label-column" in message


def test_a_column_must_be_one(tmp_path):
    assert "2 columns are named 'text'; rename" in error_of(written(tmp_path, "a.csv", "text,text,label\na,b,c\n"))
    message = error_of(written(tmp_path, "b.csv", "text,label\na,b\n"), label_column="text")
    assert message == "--text-column and --label-column both name 'text': name two different columns"


@pytest.mark.parametrize("blank", ["", "   ", '" \t"'])
def test_an_empty_text_is_named_with_its_line(tmp_path, blank):
    file = written(tmp_path, "a.csv", f'text,label\n"two\nlines",a\n{blank},b\n')
    assert error_of(file) == f"{file}, line 4, column 'text': empty text; fill it in or drop the row"


def test_a_blank_line_is_an_empty_text_where_texts_are_all_there_is(tmp_path):
    file = written(tmp_path, "a.csv", "text\nhi\n\nho\n\n")
    assert "line 3, column 'text': empty text" in error_of(file, label_column=None)


@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_label_is_named_with_its_line(tmp_path, blank):
    file = written(tmp_path, "a.csv", f"text,label\nhi,a\nho,{blank}\n")
    assert error_of(file) == f"{file}, line 3, column 'label': empty label; fill it in or drop the row"


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"text": None, "label": "a"}, "column 'text': no text (null) where a string was expected; fill it in"),
        ({"label": "a"}, "column 'text': no text (null) where a string was expected; fill it in"),
        ({"text": 5, "label": "a"}, "column 'text': a int (5) where a string was expected"),
        ({"text": ["a"], "label": "a"}, "column 'text': a list (['a']) where a string was expected"),
        ({"text": "\ud83d", "label": "a"}, "column 'text': half a surrogate pair (such as \\ud83d) is not a character"),
        ({"text": "a", "label": None}, "column 'label': empty label; fill it in or drop the row"),
        ({"text": "a"}, "column 'label': empty label; fill it in or drop the row"),
        ({"text": "a", "label": ["x", "y"]}, "column 'label': ['x', 'y'] where one label was expected; each text has"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_line_and_column(tmp_path, record, said):
    lines = [json.dumps({"text": "fine", "label": "b"}), "", json.dumps(record)]
    message = error_of(written(tmp_path, "a.jsonl", "\n".join(lines)))
    assert f"a.jsonl, line 3, {said}" in message


def test_a_null_in_parquet_is_named_with_its_record(tmp_path):
    pd.DataFrame({"text": ["hi", None], "label": ["a", "b"]}).to_parquet(tmp_path / "a.parquet")
    assert "a.parquet, record 2, column 'text': no text (null)" in error_of(tmp_path / "a.parquet")
    pd.DataFrame({"text": ["hi", "ho"], "label": [1, None]}).astype({"label": "Int64"}).to_parquet(
        tmp_path / "b.parquet"
    )
    assert "b.parquet, record 2, column 'label': empty label" in error_of(tmp_path / "b.parquet")


def test_an_empty_text_or_label_names_the_first_row_and_counts_the_others(tmp_path):
    message = error_of(written(tmp_path, "a.csv", "text,label\na,x\n,x\n  ,x\n,x\n"))
    assert message.endswith("line 3, column 'text': empty text (and 2 more such rows); fill it in or drop the row")
    message = error_of(written(tmp_path, "a.csv", "text,label\na,x\nb,\nc, \n"))
    assert message.endswith("line 3, column 'label': empty label (and 1 more such row); fill it in or drop the row")
