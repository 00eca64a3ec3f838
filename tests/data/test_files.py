import csv
import gzip
import io
import json
import os
import sys
import warnings
from pathlib import Path

import pandas as pd
import pytest

from deni.data import Texts, check_trainable, read_texts
from deni.errors import InputError, InputWarning

ROWS = [("Where is my parcel, please?", "delivery"), ('She said "no"', "other"), ("null", "NA"), ("naïve\nline", "7")]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def error_of(*args, **settings) -> str:
    with pytest.raises(InputError) as caught:
        read_texts(*args, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def labelled(*rows: tuple[str, str], source: str = "train.csv") -> Texts:
    frame = pd.DataFrame(rows, columns=["text", "label"], index=pd.RangeIndex(2, len(rows) + 2, name="line"))
    return Texts([text for text, _ in rows], [label for _, label in rows], source, frame)


def as_bytes(suffix: str) -> bytes:
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    if suffix == ".parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    if suffix in (".csv", ".tsv"):
        return frame.to_csv(index=False, sep="," if suffix == ".csv" else "\t").encode()
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS).encode()


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".CSV"])
def test_every_format_gives_the_same_texts(tmp_path, suffix, packed):
    data = as_bytes(suffix.lower())
    file = written(tmp_path, f"tickets{suffix}{packed}", gzip.compress(data) if packed else data)
    read = read_texts(file)
    assert list(zip(read.texts, read.labels, strict=True)) == ROWS
    assert len(read) == 4
    assert read.source == str(file)


def test_null_and_na_stay_strings(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", "text,label\nnull,NA\nNaN,None\n"))
    assert (read.texts, read.labels) == (["null", "NaN"], ["NA", "None"])


def test_standard_input_is_csv_unless_told(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text,label\nhello,a\n")))
    read = read_texts("-")
    assert (read.texts, read.labels, read.source) == (["hello"], ["a"], "standard input")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b'{"text": "hi", "label": 3}'))))
    read = read_texts("-", suffix=".jsonl.gz")
    assert (read.texts, read.labels) == (["hi"], ["3"])


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert read_texts(written(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\r\nhi,a\r\n")).labels == ["a"]


@pytest.mark.parametrize("head", ["text{}label", '"text"{}"label"', '\r\n\n"text"{}label'])
@pytest.mark.parametrize("delimiter", ",;\t")
def test_what_separates_a_csv_is_told_by_its_header(tmp_path, delimiter, head):
    rows = f'"one, two; three\tfour\nfive"{delimiter}a\nsix{delimiter}b\n'
    read = read_texts(written(tmp_path, "a.csv", f"{head.format(delimiter)}\n{rows}"))
    assert (read.texts, read.labels) == (["one, two; three\tfour\nfive", "six"], ["a", "b"])


def test_a_quoted_mark_and_a_lone_column_separate_nothing(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", '"text","a;b"\nhi,c\n'), label_column="a;b")
    assert (read.texts, read.labels) == (["hi"], ["c"])
    assert read_texts(written(tmp_path, "a.csv", "text\nhi; ho\n"), labels_required=False).texts == ["hi; ho"]


def test_blank_lines_in_front_of_the_header_are_counted_and_nothing_else(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", "\n\ntext,label\nhi,a\n"))
    assert (read.texts, read.frame.index.tolist()) == (["hi"], [4])


def test_a_text_may_be_very_long_and_the_csv_module_stays_as_it_was(tmp_path):
    limit = csv.field_size_limit()
    text = "word " * 40_000
    assert read_texts(written(tmp_path, "a.csv", f'text,label\n"{text}",a\n')).texts == [text]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_of_json_objects_is_read_and_names_its_records(tmp_path, indent):
    rows = [{"text": text, "label": label} for text, label in ROWS]
    read = read_texts(written(tmp_path, "a.json", json.dumps(rows, indent=indent)))
    assert list(zip(read.texts, read.labels, strict=True)) == ROWS
    assert read.row(1) == "record 2"
    message = error_of(written(tmp_path, "b.json", json.dumps([*rows, {"text": " "}], indent=indent)))
    assert f"b.json, record {len(rows) + 1}, column 'text': empty text" in message


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


def test_select_keeps_texts_labels_and_rows_together(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", "text,label,id\nhi,a,1\nho,b,2\nhu,c,3\n")).select([2, 0])
    assert (read.texts, read.labels) == (["hu", "hi"], ["c", "a"])
    assert read.frame["id"].tolist() == ["3", "1"]
    assert read.frame.index.tolist() == [4, 2]


def test_the_index_of_the_frame_is_the_line_where_a_row_begins(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", 'text,label\n"two\nlines",a\n\nlast,b\n\n'))
    assert (read.texts, read.frame.index.tolist()) == (["two\nlines", "last"], [2, 5])


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


def test_a_missing_file_is_answered_with_near_names(tmp_path):
    written(tmp_path, "tickets.csv", "text\nhi\n")
    message = error_of(tmp_path / "tickts.csv")
    assert message == f"{tmp_path}/tickts.csv: no such file; did you mean {tmp_path}/tickets.csv?"
    assert error_of(tmp_path / "zzz.jsonl").endswith("zzz.jsonl: no such file; check the path")
    assert f"there is no folder {tmp_path}/gone; check the path" in error_of(tmp_path / "gone" / "a.csv")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.csv").mkdir()
    assert error_of(tmp_path / "a.csv") == f"{tmp_path}/a.csv: is a folder; name a file in it"


def test_an_unknown_suffix_lists_the_known_ones(tmp_path):
    message = error_of(written(tmp_path, "a.xlsx", "x"))
    assert message.endswith(
        "a.xlsx: unknown file type '.xlsx'; expected .csv, .tsv, .jsonl, .ndjson, .json, .parquet, .conll, each also "
        "with .gz: convert or rename it"
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("text,label\nhi,a\ncafé,b\n".encode("latin-1"), "line 3: not UTF-8 (byte 0xe9 at offset 19); "),
        (b"\xef\xbb\xbftext,label\ncaf\xe9,b\n", "line 2: not UTF-8 (byte 0xe9 at offset 17); "),
        ("text,label\nhi,a\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8 "),
        ("text,label\nhi,a\n".encode("utf-16-le"), "iconv -f UTF-16LE -t UTF-8 "),
        ("text,label\nhi,a\n".encode("utf-16-be"), "iconv -f UTF-16BE -t UTF-8 "),
    ],
)
def test_what_is_not_utf8_is_named_with_its_place_and_its_cure(tmp_path, data, said):
    message = error_of(written(tmp_path, "a.csv", data))
    assert said in message
    assert "convert the uncompressed text first: iconv -f " in message
    assert message.endswith(f" -t UTF-8 {tmp_path}/a.csv")


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


def test_an_empty_file_and_a_lone_header_are_refused(tmp_path):
    empty = "the file is empty; expected a column 'text' and at least one text"
    assert error_of(written(tmp_path, "a.csv", "")).endswith(empty)
    assert error_of(written(tmp_path, "a.jsonl", "\n\n")).endswith(empty)
    assert "the file is empty; expected a header line" in error_of(written(tmp_path, "a.csv", b"\xef\xbb\xbf"))
    lone = error_of(written(tmp_path, "b.csv", "text,label\n"))
    assert lone.endswith("no rows below the header; expected at least one text in column 'text'")


def test_a_ragged_row_is_named_with_its_line(tmp_path):
    file = written(tmp_path, "a.csv", "text,label\nhi,a\nwell, hello,b\n")
    assert error_of(file) == (
        f"{file}, line 3: 3 fields, separated by commas, where the header has 2; put double quotes around a text that "
        "contains a comma"
    )
    message = error_of(written(tmp_path, "a.tsv", "text\tlabel\tid\nhi\ta\n"))
    assert message.endswith("line 2: 2 fields, separated by tabs, where the header has 3; fill in the others")
    assert "line 2: 1 field, separated by commas, where the header" in error_of(
        written(tmp_path, "a.csv", "text,label\nhi")
    )


@pytest.mark.parametrize("wrong", ['"never closed,b\n', '"closed" too early,b\n'])
def test_a_quote_out_of_place_is_named_with_its_line(tmp_path, wrong):
    message = error_of(written(tmp_path, "a.csv", f"text,label\nhi,a\n{wrong}"))
    assert "a.csv, line 3: " in message
    assert message.endswith(
        'look for a quote that is never closed: a field with a quote in it is written as "say ""hi"""'
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "a", ', "but this is no JSON (Expecting property name enclosed in double quotes)"),
        ('"a"', "but this is a str"),
        ('[{"text": "a"}]', "but this is a list"),
        ("[" * 100_000, "but this is no JSON (nested too deeply)"),
    ],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line, said):
    message = error_of(written(tmp_path, "a.jsonl", f'{{"text": "a", "label": 1}}\n{line}\n'))
    assert message.endswith(
        'line 2: expected one JSON object a line such as {"text": "...", "label": "..."}, or one array of them, ' + said
    )


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"text": None, "label": "a"}, "column 'text': no text (null) where a string was expected; fill it in"),
        ({"label": "a"}, "column 'text': no text (null) where a string was expected; fill it in"),
        ({"text": 5, "label": "a"}, "column 'text': a int (5) where a string was expected"),
        ({"text": ["a"], "label": "a"}, "column 'text': a list (['a']) where a string was expected"),
        ({"text": "\ud83d", "label": "a"}, "column 'text': half a surrogate pair (such as \\ud83d) is no character"),
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


def test_damaged_files_are_told_from_wrong_ones(tmp_path):
    whole = gzip.compress(as_bytes(".csv"))
    damaged = "the gzip data is truncated or damaged; copy or download it again"
    assert error_of(written(tmp_path, "a.csv.gz", whole[:-12])).endswith(damaged)
    assert error_of(written(tmp_path, "a.csv.gz", whole[:20] + b"\x00" * 9 + whole[29:])).endswith(damaged)
    message = error_of(written(tmp_path, "a.csv.gz", as_bytes(".csv")))
    assert message.endswith("is not gzip although its name ends in .gz; rename it or compress it")
    message = error_of(written(tmp_path, "a.parquet", as_bytes(".parquet")[:-20]))
    assert "a.parquet: no readable Parquet file (" in message
    assert message.endswith("; write, copy or download it again")


def test_one_class_cannot_be_trained():
    with pytest.raises(InputError) as caught:
        check_trainable(labelled(("hi", "a"), ("ho", "a")))
    assert str(caught.value) == (
        "train.csv: all 2 texts have the label 'a'; training needs at least two classes: "
        "add texts of another class or name another --label-column"
    )


def test_unlabelled_texts_cannot_be_trained():
    with pytest.raises(
        InputError, match=r"^train.csv: the texts have no labels; name their column with --label-column$"
    ):
        check_trainable(Texts(["hi"], None, "train.csv", pd.DataFrame({"text": ["hi"]})))


def test_sound_texts_pass_in_silence():
    train = labelled(("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("b2", "b"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_trainable(train, labelled(("c1", "a"), source="test.csv"))


def test_a_class_of_one_text_warns():
    with pytest.warns(InputWarning) as caught:
        check_trainable(labelled(("a1", "a"), ("a2", "a"), ("b1", "b")))
    assert [str(w.message) for w in caught] == [
        "train.csv: only one text has the label 'b'; add more or drop the class"
    ]


def test_equal_texts_with_different_labels_warn_with_count_and_example():
    rows = [("x", "b"), ("x", "a"), ("x", "a"), ("y", "a"), ("y", "b"), ("z", "a"), ("z", "a")]
    with pytest.warns(InputWarning) as caught:
        check_trainable(labelled(*rows))
    assert [str(w.message) for w in caught] == [
        "train.csv: 2 texts occur with different labels, such as 'x' with 'a', 'b'; keep one label for each"
    ]


def test_test_texts_that_were_trained_on_warn_with_count_and_line():
    train = labelled(("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))
    test = labelled(("new", "a"), ("b1", "b"), ("a1", "a"), source="test.csv")
    with pytest.warns(InputWarning) as caught:
        check_trainable(train, test)
    assert [str(w.message) for w in caught] == [
        "test.csv: 2 of 3 test texts are also in the training part, the first at line 3; "
        "scores on them say little, so drop them from one side"
    ]


def test_a_test_class_that_was_never_trained_is_refused():
    train = labelled(("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))
    with pytest.raises(
        InputError, match=r"^test.csv: no text of train.csv has the label 'c', so it cannot be learnt: add"
    ):
        check_trainable(train, labelled(("c1", "c"), source="test.csv"))


@pytest.mark.skipif("DENI_DATA" not in os.environ, reason="DENI_DATA names no folder with the research datasets")
def test_trec_has_its_5870_questions_in_six_classes():
    trec = read_texts(Path(os.environ["DENI_DATA"], "trec.csv.gz"))
    assert len(trec) == 5870
    assert pd.Series(trec.labels).value_counts().to_dict() == {
        "entity": 1339,
        "description": 1285,
        "human": 1280,
        "numeric": 969,
        "location": 904,
        "abbreviation": 93,
    }
