"""What we write, others and we read back equal."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deni.data import check_table, read_data, write_table
from deni.errors import InputError

# What no file can hold: half a surrogate; what readers of texts refuse: only blanks, NUL.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
ROWS = st.lists(TEXTS.filter(str.strip), min_size=1, max_size=5)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz"])
@settings(max_examples=60, deadline=None)
@given(texts=ROWS)
@example(texts=["bare\rreturn"])
@example(texts=["tab\there", 'say "hi"', "a,b;c", "\u2028x", "\x1cy", " lead", "trail ", "NA", "null"])
def test_what_is_written_is_read_back_equal(suffix, texts, tmp_path_factory):
    file = tmp_path_factory.getbasetemp() / f"written{suffix}"
    frame = pd.DataFrame({"text": texts, "label": [f"l{at}" for at in range(len(texts))], "number": range(len(texts))})
    write_table(frame, file, overwrite=True)
    assert read_data(file).texts == texts
    if suffix in (".csv", ".tsv"):
        separator = "\t" if suffix == ".tsv" else ","
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.reader(lines, delimiter=separator))
        assert [row[0] for row in rows] == ["text", *texts]
        again = pd.read_csv(file, sep=separator, keep_default_na=False, dtype=str)
        assert again["text"].tolist() == texts
    elif suffix == ".jsonl":
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        assert [json.loads(line)["text"] for line in lines] == texts
    elif suffix == ".parquet":
        assert pd.read_parquet(file)["text"].tolist() == texts


@pytest.mark.filterwarnings("ignore:The default formatting of datetime")  # of pandas, for durations
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"\xff", id="bytes"),
        pytest.param(
            np.timedelta64(2**62, "s"),
            id="an endless duration",
            marks=pytest.mark.skipif(pd.__version__ < "3", reason="earlier versions of pandas write such a duration"),
        ),
    ],
)
def test_what_json_cannot_hold_is_one_line(tmp_path, more):
    with pytest.raises(InputError, match=r"out.jsonl: .jsonl cannot hold these columns \(.*\): write .csv instead"):
        write_table(pd.DataFrame({"text": ["a"], "more": [more]}), tmp_path / "out.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.jsonl", "out.parquet", "out.csv.gz"])
def test_half_a_character_is_found_before_the_work(tmp_path, name):
    table = pd.DataFrame({"text": ["a"], "more": ["half \ud83d"]}, dtype=object)
    for check in (check_table, write_table):
        with pytest.raises(InputError, match=rf"{name}: no file can hold .*ud83d.*, half a surrogate pair: write the"):
            check(table, tmp_path / name)
    check_table(table, "-")
    assert not list(tmp_path.iterdir())
