"""What may be written where: an output is never an input, a store is never replaced, and names can be written."""

import json
import os
import sqlite3

import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.errors import InputError
from deni.outputs import check_file

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
