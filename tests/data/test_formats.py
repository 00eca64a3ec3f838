"""What a file of each format is read as, and what is said of one that cannot be."""

import csv
import gzip
import io
import json
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deni.data import read_augmented, read_texts
from deni.errors import InputError
from tests.helpers.written_files import ROWS, as_bytes, error_of, written


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".CSV"])
def test_every_format_gives_the_same_texts(tmp_path, suffix, packed):
    data = as_bytes(suffix.lower())
    file = written(tmp_path, f"tickets{suffix}{packed}", gzip.compress(data) if packed else data)
    read = read_texts(file)
    assert list(zip(read.texts, read.labels, strict=True)) == ROWS
    assert len(read) == 4
    assert read.source == str(file)


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


def test_the_index_of_the_frame_is_the_line_where_a_row_begins(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", 'text,label\n"two\nlines",a\n\nlast,b\n\n'))
    assert (read.texts, read.frame.index.tolist()) == (["two\nlines", "last"], [2, 5])


def test_a_missing_file_is_answered_with_near_names(tmp_path):
    written(tmp_path, "tickets.csv", "text\nhi\n")
    message = error_of(tmp_path / "tickts.csv")
    assert message == f"{tmp_path}/tickts.csv: no such file; did you mean {tmp_path}/tickets.csv?"
    assert error_of(tmp_path / "zzz.jsonl").endswith("zzz.jsonl: no such file; check the path")
    assert f"no folder {tmp_path}/gone; check the path" in error_of(tmp_path / "gone" / "a.csv")


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
        ('{"text": "a", ', "but this is not JSON (Expecting property name enclosed in double quotes)"),
        ('"a"', "but this is a str"),
        ('[{"text": "a"}]', "but this is a list"),
        ("[" * 100_000, "but this is not JSON (nested too deeply)"),
    ],
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line, said):
    message = error_of(written(tmp_path, "a.jsonl", f'{{"text": "a", "label": 1}}\n{line}\n'))
    assert message.endswith(
        'line 2: expected one JSON object a line such as {"text": "...", "label": "..."}, or one array of them, ' + said
    )


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


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;", "\r\nsep=; "])
def test_a_first_line_of_excel_names_what_separates_and_is_counted(tmp_path, first):
    read = read_texts(written(tmp_path, "a.csv", f"{first}\r\ntext;label\r\nhi, ho;a\r\n"))
    assert (read.texts, read.labels) == (["hi, ho"], ["a"])
    assert read.frame.index.tolist() == [3 + first.count("\n")]
    assert read_texts(written(tmp_path, "a.tsv", "sep=\t\ntext\tlabel\nhi\ta\n")).labels == ["a"]
    odd = read_texts(written(tmp_path, "b.csv", f"sep=~\n{_pandas_csv(sep='~')}"))
    assert (odd.texts, odd.labels) == (["one, two", 'a "|" b'], ["x", "y"])
    message = error_of(written(tmp_path, "c.csv", "sep=~\ntext~label\nhi\n"))
    assert "line 3: 1 field, separated by ~s, where the header has 2" in message


def test_pipes_separate_where_the_header_has_nothing_else(tmp_path):
    read = read_texts(written(tmp_path, "a.csv", _pandas_csv(sep="|")))
    assert (read.texts, read.labels) == (["one, two", 'a "|" b'], ["x", "y"])
    message = error_of(written(tmp_path, "b.csv", "text|label\nthis|or that|a\n"))
    assert "line 2: 3 fields, separated by pipes, where the header has 2" in message
    assert read_texts(written(tmp_path, "c.csv", "text,a|b\nhi,c\n"), label_column="a|b").labels == ["c"]


def _pandas_csv(sep):
    return pd.DataFrame({"text": ["one, two", 'a "|" b'], "label": ["x", "y"]}).to_csv(index=False, sep=sep)


def test_dates_beyond_the_years_of_python_are_read_as_strings(tmp_path):
    days = pa.array([0, 2**31 - 1, None], pa.date32())
    times = pa.array([0, -(2**62), 2**62], pa.timestamp("us", "UTC"))
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": ["x", "y", "z"], "day": days, "at": times}), file)
    read = read_texts(file)
    assert (read.labels, read.frame["day"].tolist()[0]) == (["x", "y", "z"], "1970-01-01")
    assert len(set(read_texts(file, label_column="at").labels)) == 3


def test_damaged_strings_of_a_parquet_file_name_their_column(tmp_path):
    damaged = pa.array([b"a", b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": damaged, "label": ["x", "y"]}), tmp_path / "a.parquet")
    assert error_of(tmp_path / "a.parquet").endswith(
        "a.parquet, column 'text': its values are damaged (strings that are not UTF-8, or the like); correct the "
        "column, or write the file without it"
    )


def test_times_that_are_no_times_of_python_are_named_with_their_column(tmp_path):
    """Found by benchmarks/fuzz.py: nanoseconds of a time of day, and dates in lists."""
    nanoseconds = pa.array([2**40, None], pa.int64()).view(pa.time64("ns"))
    days = pa.ListArray.from_arrays(pa.array([0, 1, 2]), pa.array([2**31 - 1] * 2, pa.int32()).view(pa.date32()))
    for column in (nanoseconds, days):
        pq.write_table(pa.table({"text": ["a", "b"], "when": column}), tmp_path / "odd.parquet")
        message = error_of(tmp_path / "odd.parquet", label_column=None)
        assert message.startswith(
            f"{tmp_path / 'odd.parquet'}, column 'when': it has values that Python cannot represent"
        )
        assert message.endswith("; correct the column, or write the file without it")


@pytest.mark.parametrize("seed", [["a", "b"], 3, None, "", "\ud800"], ids=str)
def test_the_labeled_text_of_an_augmented_one_is_a_text(tmp_path, seed):
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"seed": "a", "text": "b"}) + "\n" + json.dumps({"seed": seed, "text": "c"})
    )
    with pytest.raises(
        InputError, match=rf"^{tmp_path / 'a.jsonl'}, line 2, column 'seed': .* where a labeled text was"
    ):
        read_augmented(tmp_path / "a.jsonl")


@pytest.mark.parametrize("content", ['{"text": "a", "label": %s}', '[{"text": "a", "label": %s}]'])
def test_json_numbers_of_more_digits_than_python_reads_are_named(tmp_path, content):
    message = error_of(written(tmp_path, "a.jsonl", content % ("9" * 5000)))
    assert message.endswith("but this is not JSON (a number of more digits than Python reads)")


def test_bytes_in_parquet_are_text_in_utf_8(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for label, why in ((b"a", None), (b"\xff\xfe", "column 'label': it has bytes that are not UTF-8")):
        pq.write_table(pa.table({"text": ["one", "two"], "label": [b"b", label]}), tmp_path / "a.parquet")
        if why is None:
            assert list(read_texts(tmp_path / "a.parquet").labels) == ["b", "a"]
        else:
            assert why in error_of(tmp_path / "a.parquet")
