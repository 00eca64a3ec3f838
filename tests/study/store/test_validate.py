"""Stores and archives that are damaged, or somebody else's: a damaged cell is named, the others are read."""

import json
import random
import sqlite3
import warnings

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from deni.analysis.runs import read_runs
from deni.cli import main
from deni.errors import InputError, InputWarning
from deni.study.store import connection
from deni.study.store.archive import opened, write_archive
from deni.study.store.database import Store
from deni.study.store.rows import Outputs, pack_arrays
from deni.study.store.validate import check_row
from tests.helpers.cells import a_result, planned

GOOD = a_result()


@pytest.fixture
def path(tmp_path):
    """A store of four cells that are done."""
    file = tmp_path / "study.db"
    with Store(file, create=True) as store:
        jobs = planned()
        store.add(jobs)
        for job in jobs:
            store.finish(job.key, a_result(job.cell.seed))
    return file


def change(path, sql, *values):
    database = sqlite3.connect(path)
    with database:
        database.execute(sql, values)
    database.close()


def arrays(**changed):
    values = {"log_probs": GOOD.log_probs, "gold": GOOD.gold, "text_ids": GOOD.text_ids, **changed}
    return pack_arrays(Outputs(**values))


DEEP = "[" * 300 + "]" * 300
ROWS = {
    "key": ["another", 7, b"\xff", "'; DROP TABLE cells; --"],
    "pack": [b"x"],
    "spec": ["null", "[]", "{", '{"dataset": 1}', "{}", DEEP, b"{}"],
    "decides": ["{}", '{"recipe": {"task": "no"}}', DEEP, "NaN"],
    "attempts": [-1, "many", 1.5],
    "labels": ["[1, 2]", '"no"', '["one"]', '{"a": 1}'],
    "metrics": ["{", "[]", '{"macro_f1": "high"}', '{"macro_f1": [1]}', "7"],
    "cost": ["{", "[]", '{"seconds": {}}', f'{{"seconds": 1{"0" * 400}}}', f'{{"seconds": {2**63}}}'],
    "diagnostics": ["{", "[]", "1", f'{{"a": {DEEP}}}', '{"a": ["\\ud83d"]}'],
    "environment": ["{", '"x"', '{"\\uD83D": "x"}'],
    "traceback": [b"\x00\xff"],
    "added": [b"5"],
    "finished": [b"1"],
}
CASES = [(column, value) for column, values in ROWS.items() for value in values]


def look(path):
    """Everything that reads a store, with what it warned of."""
    with warnings.catch_warnings(record=True) as caught, Store(path) as store:
        warnings.simplefilter("always")
        rows = list(store.results(None))
        runs = read_runs(store)
        scores = sum(len(block.scores) for group in runs.groups for block in group.blocks)
    return len(rows), scores, [str(each.message) for each in caught if issubclass(each.category, InputWarning)]


def test_a_whole_store_has_no_damage(path):
    assert look(path) == (4, 4, [])
    with Store(path) as store:
        assert store.damaged() == {}


@pytest.mark.parametrize(("column", "value"), CASES, ids=lambda value: repr(value)[:24])
def test_a_damaged_row_is_named_and_the_others_are_read(path, tmp_path, column, value):
    change(path, f"UPDATE cells SET {column} = ? WHERE number = 2", value)
    if column == "key":
        change(path, "UPDATE outputs SET key = ? WHERE rowid = 2", value)
    rows, scores, said = look(path)
    assert (rows, scores) in ((3, 3), (4, 3))  # of a row that is whole the predictions may not fit
    assert said
    assert all("\n" not in line and str(path) in line for line in said)
    with Store(path) as store:
        assert list(store.damaged()) == [2]
    copy = tmp_path / "whole.db"
    done = CliRunner().invoke(main, ["study", "check", str(path), "--output", str(copy)])
    assert done.exit_code == 2
    assert "row 2" in done.output
    assert "1 cell is damaged" in done.output
    assert look(copy) == (3, 3, [])
    assert CliRunner().invoke(main, ["study", "check", str(copy)]).output == "no cell is damaged\n"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no zip",
        arrays()[:100],
        arrays(log_probs=np.zeros((5, 3))),
        arrays(log_probs=np.zeros((5, 3, 4))),
        arrays(log_probs=np.full((5, 3, 2), np.nan)),
        arrays(log_probs=np.zeros((0, 3, 2)), gold=np.zeros(0), text_ids=np.zeros(0)),
        arrays(gold=np.zeros(4)),
        arrays(gold=np.array(list("abcde"))),
        arrays(text_ids=np.zeros((5, 2))),
        arrays(merged=np.zeros((5, 3))),
    ],
    ids=range(11),
)
def test_damaged_predictions_are_named_and_the_others_are_read(path, packed):
    with Store(path) as store:
        key = store._raw()[1]["key"]
    change(path, "UPDATE outputs SET arrays = ? WHERE key = ?", packed, key)
    rows, scores, said = look(path)
    assert (rows, scores) == (4, 3)
    (line,) = said
    assert f"cell {key[:12]}" in line
    with Store(path) as store:
        assert list(store.damaged()) == [2]
        assert len(list(store.records())) == 3


def test_a_result_without_its_predictions_is_named(path):
    change(path, "DELETE FROM outputs WHERE rowid = 1")
    assert look(path)[:2] == (3, 3)
    with Store(path) as store:
        assert "has no predictions" in store.damaged()[1]


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE outputs",
        "ALTER TABLE cells DROP COLUMN metrics",
        'ALTER TABLE cells ADD COLUMN "x); DROP TABLE outputs; --"',
        "ALTER TABLE cells RENAME COLUMN spec TO specs",
        "DROP TABLE superseded",
        "ALTER TABLE outputs RENAME TO old",
    ],
)
def test_other_tables_than_those_of_a_store_are_refused_in_one_line(path, sql):
    change(path, sql)
    before = path.read_bytes()
    for command in (["study", "status"], ["study", "check"], ["study", "retry"]):
        done = CliRunner().invoke(main, [*command, str(path)])
        assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
        assert "changed by another program" in done.output
    assert path.read_bytes() == before


def test_a_view_is_no_table(path):
    change(path, "ALTER TABLE cells RENAME TO real")
    change(path, "CREATE VIEW cells AS SELECT * FROM real")
    with pytest.raises(InputError, match="changed by another program"):
        Store(path)


def archived(path, tmp_path, **changed):
    with Store(path) as store:
        write_archive(store, tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    for column, value in changed.items():
        values = frame[column].astype(object).tolist() if column in frame else [None] * len(frame)
        values[1] = value
        frame[column] = pd.Series(values, dtype=object)
    frame.to_parquet(tmp_path / "b.parquet", index=False)
    return tmp_path / "b.parquet"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("decides", "{}"),
        ("spec", "["),
        ("status", "asleep"),
        ("labels", '["one"]'),
        ("metrics", '{"macro_f1": []}'),
        ("arrays", b"no zip"),
        ("arrays", None),
        ("key", None),
    ],
)
def test_a_damaged_row_of_an_archive_is_named_and_the_others_are_read(path, tmp_path, column, value):
    file = archived(path, tmp_path, **{column: value})
    with pytest.warns(InputWarning, match=r"b\.parquet: row 2.*left out"), opened(file) as store:
        assert len(list(store.results())) == 3


def test_a_key_that_comes_twice_in_an_archive_counts_once(path, tmp_path):
    with Store(path) as store:
        first = store._raw()[0]["key"]
    file = archived(path, tmp_path, key=first)
    with pytest.warns(InputWarning, match="its key was there before"), opened(file) as store:
        assert len(list(store.results())) == 3


@pytest.mark.parametrize("name", ["x) VALUES (1); DROP TABLE cells; --", "more"])
def test_columns_of_another_are_no_sql(path, tmp_path, name):
    file = archived(path, tmp_path, **{name: "x"})
    with pytest.raises(InputError, match="an unknown column"), opened(file):
        pass


@pytest.mark.parametrize("kind", ["store", "archive"])
def test_bytes_changed_at_random_end_in_one_line_or_in_the_cells_that_are_whole(path, tmp_path, kind):
    with Store(path) as store:
        write_archive(store, tmp_path / "a.parquet")
    source = path if kind == "store" else tmp_path / "a.parquet"
    data, draw = source.read_bytes(), random.Random(0)
    outcomes = {"read": 0, "one line": 0}
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(draw.choice([1, 4, 60])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        if draw.random() < 0.2:
            changed = changed[: draw.randrange(len(changed))]
        file = tmp_path / f"changed{source.suffix}"
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"{file.name}{suffix}").unlink(missing_ok=True)
        file.write_bytes(changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)
                with opened(file) as store:
                    read_runs(store)
                    store.damaged()
            outcomes["read"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["one line"] += 1
    assert min(outcomes.values()) > 3


def test_a_store_that_another_process_locks_is_one_line(path, monkeypatch):
    monkeypatch.setattr(connection, "WAIT", 0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with Store(path) as store:
            assert store.status()["done"] == 4  # who reads does not wait
            with pytest.raises(InputError, match=r"another process has been writing for 0\.1 seconds"):
                store.retry()
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_two_drivers_on_one_store_never_have_the_same_cell(tmp_path):
    jobs = planned(40)
    with Store(tmp_path / "s.db", create=True) as one, Store(tmp_path / "s.db") as two:
        one.add(jobs)
        two.add(jobs)
        draw, had = random.Random(0), []
        while left := [row.key for row in one.waiting()]:
            store = draw.choice([one, two])
            had += store.claim(draw.sample(left, min(3, len(left))), worker=f"driver {store is one}")
        assert sorted(had) == sorted(job.key for job in jobs)


def test_a_full_disk_keeps_what_was_written(path):
    jobs = planned(5)
    with Store(path) as store:
        store.add(jobs)
        pages = store._file.sqlite.execute("PRAGMA page_count").fetchone()[0]
        store._file.sqlite.execute(f"PRAGMA max_page_count = {pages}")
        big = a_result(9, texts=20_000)
        with pytest.raises(InputError, match="the disk is full: what was written before is safe"):
            store.finish(jobs[-1].key, big)
        assert store.status()["done"] == 4
    assert look(path)[1:] == (4, [])


def test_deep_json_is_found_without_recursion():
    assert json.loads(DEEP)
    raw = {"key": "k", "pack": "p", "study": "s", "spec": DEEP, "decides": "{}", "status": "waiting", "added": ""}
    with pytest.raises(InputError, match="levels deep"):
        check_row({**raw, "attempts": 0})
