"""What may be written where: an output is never an input, a store is never replaced, and names can be written."""

import json
import os
import sqlite3
import tempfile

import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.errors import InputError
from deni.outputs import check_file
from deni.study.store.database import Store
from tests.helpers.made import make, runs

ROWS = [f"parcel {number} is late,delivery\nmoney back {number},refund\n" for number in range(4)]
TEXTS = "".join(["text,label\n", *ROWS])


def run(*arguments):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(TEXTS)
    return file


def spellings(file):
    """Other names of one file."""
    folder = file.parent
    (folder / "hard.csv").hardlink_to(file)
    (folder / "soft.csv").symlink_to(file)
    (folder / "in").symlink_to(folder)
    os.chdir(folder)
    return [file, file.name, f"./{file.name}", folder / "in" / file.name, "hard.csv", "soft.csv", f"in/in/{file.name}"]


def test_no_spelling_of_an_input_is_an_output(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    for name in spellings(table):
        with pytest.raises(InputError, match="is what is read"):
            check_file(name, True, [table])
    assert table.read_text() == TEXTS


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "t.csv", "--json", "t.csv", "--overwrite"),
        ("inspect", "u.csv", "--test", "t.csv", "--json", "t.csv", "--overwrite"),
        ("augment", "t.csv", "--output", "soft.csv", "--overwrite"),
        ("predict", "model", "t.csv", "--output", "hard.csv", "--overwrite"),
    ],
    ids=lambda command: command[0],
)
def test_a_command_does_not_write_over_what_it_reads(command, table, monkeypatch):
    monkeypatch.chdir(table.parent)
    spellings(table)
    (table.parent / "u.csv").write_text(TEXTS)
    result = run(*command)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "is what is read" in result.output
    assert table.read_text() == TEXTS


def a_store(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE cells (key)")
    database.close()
    return path.read_bytes()


@pytest.mark.parametrize("other", ["s.db", "another.db"])
@pytest.mark.parametrize(
    "command", [("report", "s.db", "--csv"), ("report", "s.db", "--output"), ("study", "export", "s.db", "--output")]
)
def test_a_store_is_not_written_over(command, other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = {name: a_store(tmp_path / name) for name in ("s.db", "another.db")}
    more = ["--format", "csv"] if command[0] == "study" else []
    result = run(*command, other, "--overwrite", *more)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert ("is what is read" if other == "s.db" else "is a database") in result.output
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept


def test_a_report_that_is_there_needs_overwrite(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    (table.parent / "report.json").write_text("mine")
    result = run("inspect", "t.csv", "--json", "report.json")
    assert result.exit_code == 2
    assert "report.json exists: choose another file or give --overwrite" in result.output
    assert (table.parent / "report.json").read_text() == "mine"
    assert run("inspect", "t.csv", "--json", "report.json", "--overwrite").exit_code == 0
    assert json.loads((table.parent / "report.json").read_text())["parts"][0]["texts"] == 8


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "has no name"),
        ("a\0b.csv", "NUL"),
        ("x" * 252 + ".csv", "256 bytes: 255 is the most"),
        ("é" * 126 + ".csv", "256 bytes: 255 is the most"),
        (os.fsdecode(b"caf\xe9.csv"), "not UTF-8"),
        ("dangling.csv", "is a link to nowhere.csv"),
        (".", "is a folder"),
        ("/", "is a folder"),
        ("file/x.csv", "file is not writable"),
        ("/dev/full", "is no regular file"),
        ("/".join(["long"] * 1000) + ".csv", "File name too long"),
    ],
)
def test_an_impossible_name_is_one_line(name, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling.csv").symlink_to("nowhere.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        check_file(name, True)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_the_longest_name_can_be_written(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    name = "x" * 250 + ".json"
    assert run("inspect", "t.csv", "--json", name).exit_code == 0
    assert (table.parent / name).exists()


# ---- results of studies ----------------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A store and its archive, another store, another database, a table in Parquet, a text."""
    monkeypatch.chdir(tmp_path)
    for name, accuracy in (("s.db", 0.7), ("t.db", 0.8)):
        make(tmp_path / name, runs("default", accuracy, 2))
    assert run("study", "export", "s.db", "--archive", "--output", "s.parquet").exit_code == 0
    assert run("study", "export", "s.db", "--output", "cells.parquet").exit_code == 0
    a_store(tmp_path / "another.db")
    (tmp_path / "notes.txt").write_text("mine")
    return {path.name: path.read_bytes() for path in tmp_path.iterdir()}


CHECK, ARCHIVE = ("study", "check", "s.db", "--output"), ("study", "export", "s.db", "--archive", "--output")
TABLE, REPORT = ("study", "export", "s.db", "--format", "csv", "--output"), ("report", "s.db", "--csv")


@pytest.mark.parametrize(
    ("command", "output", "why"),
    [
        (CHECK, "s.db", "is what is read"),
        (CHECK, "t.db", None),
        (CHECK, "another.db", "is not a store"),
        (CHECK, "s.parquet", "is not a store"),
        (CHECK, "notes.txt", "is not a store"),
        (ARCHIVE, "s.parquet", None),
        (ARCHIVE, "cells.parquet", "is not an archive"),
        (TABLE, "s.db", "is what is read"),
        (TABLE, "t.db", "is a database"),
        (TABLE, "s.parquet", "is an archive"),
        (TABLE, "cells.parquet", None),
        (TABLE, "notes.txt", None),
        (REPORT, "t.db", "is a database"),
        (REPORT, "s.parquet", "is an archive"),
        (REPORT, "notes.txt", None),
        (("report", "s.parquet", "--csv"), "s.parquet", "is what is read"),
        (("report", "s.db", "--figures"), "notes.txt", "is a file"),
        (("report", "s.db", "--figures"), "s.db", "is a file"),
        (("study", "run", "notes.txt", "--dry-run", "--store"), "notes.txt", "is what is read"),
        (("study", "run", "notes.txt", "--dry-run", "--store"), "", "has no name"),
        (("study", "run", "notes.txt", "--dry-run", "--store"), ".", "is a folder"),
        (("study", "run", "notes.txt", "--dry-run", "--store"), "no/s.db", "create it first"),
        (("study", "merge"), "notes.txt", "not a store"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value,
)
def test_results_of_studies_are_replaced_by_their_like_only(command, output, why, study, tmp_path):
    flags = [] if command[1] in ("run", "merge") else ["--overwrite"]
    result = run(*command, output, *flags, *(["s.db"] if command[1] == "merge" else []))
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if why is None:
        assert result.exit_code == 0, result.output
        assert after.keys() == study.keys()
        assert {name for name in study if after[name] != study[name]} <= {output}
    else:
        assert (result.exit_code, result.output.count("\n")) == (2, 1), result.output
        assert why in result.output
        assert after == study


def test_a_copy_of_a_store_is_that_store(study, tmp_path):
    assert run(*CHECK, "t.db", "--overwrite").exit_code == 0
    with Store("s.db") as one, Store("t.db") as other:
        assert list(one.records()) == list(other.records())


def test_a_store_in_use_is_not_replaced_nor_its_journal(study, tmp_path):
    with Store("t.db"):
        assert (tmp_path / "t.db-wal").exists()
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if "-shm" not in path.name}
        for name, why in (("t.db", "is in use"), ("t.db-wal", "t.db-wal belongs to the database t.db")):
            result = run(*(CHECK if name == "t.db" else TABLE), name, "--overwrite")
            assert (result.exit_code, result.output.count("\n")) == (2, 1)
            assert why in result.output
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if "-shm" not in path.name} == before


def test_a_store_that_is_all_in_its_journal_is_one(tmp_path):
    (tmp_path / "s.db").write_bytes(b"")
    (tmp_path / "s.db-wal").write_bytes(b"cells")
    with pytest.raises(InputError, match="is a database"):
        check_file(tmp_path / "s.db", True)


def test_figures_replace_those_of_before_and_no_other_file(study, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "mine.svg").write_text("mine")
    report = ("report", "s.db", "--figures", "figures")
    assert run(*report).exit_code == 0
    first = {path.name for path in folder.iterdir()}
    assert {"mine.svg", "deni-files.json"} < first
    refused = run(*report)
    assert refused.exit_code == 2
    assert "exists: choose another folder or give --overwrite" in refused.output
    assert run(*report, "--overwrite").exit_code == 0
    assert {path.name for path in folder.iterdir()} == first
    figure = next(iter(first - {"mine.svg", "deni-files.json"}))
    (folder / "deni-files.json").unlink()  # as in a folder of an earlier version
    (folder / figure).write_text("mine, too")
    refused = run(*report, "--overwrite")
    assert refused.exit_code == 2
    assert "exists and is not replaced: the figures are in " in refused.output
    assert (folder / figure).read_text() == "mine, too"


def test_augmented_texts_do_not_replace_their_own_journal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = '{"text": "my parcel is late", "label": "delivery"}\n'
    (tmp_path / "out.csv.partial.jsonl").write_text(row)
    result = run("augment", "out.csv.partial.jsonl", "--output", "out.csv", "--overwrite")
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    assert "out.csv.partial.jsonl is what is read" in result.output
    assert (tmp_path / "out.csv.partial.jsonl").read_text() == row
