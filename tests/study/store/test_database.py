import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.errors import InputError
from deni.provenance import canonical
from deni.study.store import schema
from deni.study.store.database import Store
from deni.study.store.merge import merge_files
from deni.study.store.rows import Outputs, pack_arrays
from deni.study.store.validate import DamagedCellError
from deni.study.store.workers import worker_name
from tests.helpers.cells import FORMAT_1, a_result, planned


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


@pytest.fixture
def store(path):
    with Store(path, create=True) as opened:
        opened.add(planned(), "first")
        yield opened


def keys(store, status="waiting"):
    return [row.key for row in store.results(status)]


def test_cells_wait_in_the_order_in_which_they_came(store):
    assert [row.cell for row in store.waiting()] == [each.cell for each in planned()]
    first = store.waiting()[0]
    assert (first.key, first.pack, first.decides) == (planned()[0].key, planned()[0].pack, planned()[0].decides)
    assert (first.study, first.attempts, first.metrics, first.labels) == ("first", 0, {}, ())


@pytest.mark.parametrize("merged", [False, True])
def test_a_result_comes_back_exactly(store, path, merged):
    key = keys(store)[1]
    store.claim([key])
    store.finish(key, a_result(merged=merged))
    with Store(path) as again:
        (row,) = again.results()
        outputs = again.outputs(key)
    expected = a_result(merged=merged)
    assert (row.key, row.status, row.attempts, row.labels, row.fingerprint) == (key, "done", 1, ("no", "yes"), "d")
    assert row.metrics == {"macro_f1": 0.5, "accuracy": 0.25}
    assert row.cost == {"member_steps": 12, "seconds": 1.5}
    assert (row.diagnostics, row.environment) == ({"engine": "stacked"}, {"torch": "2"})
    assert row.started <= row.finished
    assert outputs.log_probs.dtype == np.float32
    for name in ("log_probs", "gold", "text_ids"):
        np.testing.assert_array_equal(getattr(outputs, name), getattr(expected, name))
    assert (outputs.merged is None) == (not merged)
    if merged:
        np.testing.assert_array_equal(outputs.merged, expected.merged)


def test_a_cell_is_begun_by_one_only(store, path):
    with Store(path) as other:
        assert store.claim(keys(store)[:2]) == [each.key for each in planned()[:2]]
        assert other.claim([each.key for each in planned()[:3]]) == [planned()[2].key]
    assert store.status() == {"waiting": 1, "running": 3, "done": 0, "failed": 0}


def test_a_failure_has_its_reason_and_can_be_tried_again(store):
    one, other = keys(store)[:2]
    for key in (one, other):
        store.claim([key])
        store.fail(key, "Traceback\n  in a line\nRuntimeError: out of memory\n")
    assert [row.reason for row in store.results("failed")] == ["RuntimeError: out of memory"] * 2
    assert store.retry([other, keys(store)[0]]) == 1
    assert store.retry() == 1
    store.claim([one])
    store.finish(one, a_result())
    (row,) = store.results()
    assert (row.attempts, row.traceback) == (2, "")


def test_a_failure_never_replaces_a_result(store):
    key = keys(store)[0]
    store.finish(key, a_result())
    store.fail(key, "late")
    assert store.status()["done"] == 1


@pytest.mark.parametrize(
    "call", [lambda s: s.finish("x", a_result()), lambda s: s.fail("x", "y"), lambda s: s.outputs("x")]
)
def test_a_cell_that_is_not_there_is_a_mistake(store, call):
    with pytest.raises(KeyError, match="x"):
        call(store)


def test_adding_again_keeps_results_and_joins_factors(store):
    store.finish(keys(store)[0], a_result())
    again = planned(5, factor={"labelled": 100})
    assert store.add(again, "second") == 1
    assert store.add(planned(5, factor={"epochs": 3}), "third") == 0
    assert store.status()["done"] == 1
    rows = list(store.results(None))
    assert [row.study for row in rows] == ["first"] * 4 + ["second"]
    assert rows[0].cell.factor == {"labelled": 100, "epochs": 3}


def test_cells_of_a_worker_that_is_gone_wait_again(store):
    gone, here, elsewhere, mine = keys(store)
    machine = worker_name().rsplit(":", 2)[0]
    died = subprocess.Popen([sys.executable, "-c", ""])
    died.wait()
    store.claim([gone], f"{machine}:{died.pid}:1.00")
    store.claim([here], f"{machine}:{os.getpid()}:1.00")  # this number, but an earlier process
    store.claim([elsewhere], "another-machine:1:1.00")
    store.claim([mine])
    assert store.release_stale() == 2
    assert keys(store) == [gone, here]
    assert store.release() == 1
    assert keys(store, "running") == [elsewhere]
    store.claim([here])
    assert store.release_stale(elsewhere=True) == 1
    assert keys(store, "running") == [here]


def test_status_says_who_trains_and_a_dead_machines_cells_can_wait_again(store, path):
    store.claim(keys(store)[:2], "another-machine:7:1.00")
    said = CliRunner().invoke(main, ["study", "status", str(path)]).output
    assert "running: 2 since" in said
    assert f"by process 7 of another-machine; if it is gone, `deni study retry {path} --running`" in said
    assert "2 cells wait again" in CliRunner().invoke(main, ["study", "retry", str(path), "--running"]).output
    assert store.status()["running"] == 0


# ---- what may go wrong ---------------------------------------------------------------------------------------------

WRITER = """
import sys
sys.path[:0] = sys.argv[2:]
from tests.helpers.cells import a_result
from deni.study.store.database import Store
with Store(sys.argv[1]) as store:
    for at, row in enumerate(store.waiting()):
        store.claim([row.key])
        store.finish(row.key, a_result(at, 20_000))
        print(at, flush=True)
"""


def test_a_writer_that_is_killed_loses_no_finished_cell(path):
    with Store(path, create=True) as store:
        store.add(planned(2000))
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), os.path.dirname(__file__), *sys.path],
        stdout=subprocess.PIPE,
        text=True,
    )
    said = [writer.stdout.readline() for _ in range(12)]
    time.sleep(0.02)
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.read().splitlines()
    writer.wait()
    assert said[11].strip() == "11"
    with sqlite3.connect(path) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()
    with Store(path) as store:
        done = keys(store, "done")
        assert len(said) <= len(done) < 2000
        for at, key in enumerate(done):
            np.testing.assert_array_equal(store.outputs(key).log_probs, a_result(at, 20_000).log_probs)
        assert store.status()["running"] <= 1
        store.release_stale()
        assert store.status() == {"waiting": 2000 - len(done), "running": 0, "done": len(done), "failed": 0}


DIES = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from tests.helpers.cells import a_result
from deni.study.store.database import Store
store = Store(sys.argv[1])
die = lambda statement: statement == "COMMIT" and os.kill(os.getpid(), signal.SIGKILL)
store._file.sqlite.set_trace_callback(die)
store.finish(store.waiting()[0].key, a_result(1, 200_000))
"""


def test_a_writer_that_is_killed_before_the_end_of_a_cell_leaves_none_of_it(store, path):
    before = [row.key for row in store.waiting()]
    command = [sys.executable, "-c", DIES, str(path), os.path.dirname(__file__), *sys.path]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert path.with_name("study.db-wal").stat().st_size > 1_000_000  # it had begun to write
    with Store(path) as again:
        assert [row.key for row in again.waiting()] == before
        assert again._file.sqlite.execute("SELECT count(*) FROM outputs").fetchone() == (0,)
        assert again._file.sqlite.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        again.finish(before[0], a_result(1))


def test_a_full_disk_is_one_line_and_loses_nothing(store, path):
    one, other = keys(store)[:2]
    store.finish(one, a_result(0))
    pages = store._file.sqlite.execute("PRAGMA page_count").fetchone()[0]
    store._file.sqlite.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(InputError, match=r"study.db: the disk is full: .* \(database or disk is full\)"):
        store.finish(other, a_result(1, 50_000))
    assert keys(store, "done") == [one]
    assert len(keys(store)) == 3
    store._file.sqlite.execute("PRAGMA max_page_count = 1000000")
    store.finish(other, a_result(1, 50_000))
    np.testing.assert_array_equal(store.outputs(one).log_probs, a_result(0).log_probs)
    np.testing.assert_array_equal(store.outputs(other).log_probs, a_result(1, 50_000).log_probs)
    assert store._file.sqlite.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def format_1(path):
    """A store of format 1 with a finished, a failed and a waiting cell."""
    result = a_result()
    packed = pack_arrays(Outputs(result.log_probs, result.gold, result.text_ids))
    done, failed, waiting = planned(3)
    with sqlite3.connect(path) as old:
        old.executescript(FORMAT_1)
        insert = "INSERT INTO cells (key, spec, decides, status, attempts, arrays, labels, metrics, traceback, added) "
        for each, status, arrays, labels, metrics, trace in (
            (done, "done", packed, '["no", "yes"]', '{"macro_f1": 0.5}', None),
            (failed, "failed", None, None, None, "Traceback\nValueError: no"),
            (waiting, "waiting", None, None, None, None),
        ):
            spec = canonical(each.cell.to_json())
            values = (each.key, spec, canonical(each.decides), status, 2, arrays, labels, metrics, trace, "2026-01-01")
            old.execute(f"{insert} VALUES ({', '.join('?' * len(values))})", values)
    old.close()


def test_a_store_of_format_1_becomes_one_of_today(path):
    format_1(path)
    with Store(path) as store:
        rows = list(store.results(None))
        np.testing.assert_array_equal(store.outputs(rows[0].key).log_probs, a_result().log_probs)
        assert store._file.sqlite.execute("PRAGMA user_version").fetchone() == (schema.FORMAT,)
        assert store._file.sqlite.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert [row.cell for row in rows] == [each.cell for each in planned(3)]
        assert [row.status for row in rows] == ["done", "failed", "waiting"]
        assert (rows[0].metrics, rows[1].reason, rows[2].attempts) == ({"macro_f1": 0.5}, "ValueError: no", 2)
        assert store.add(planned(3)) == 0
        assert {row.pack for row in store.results(None)} == {planned()[0].pack}
    with Store(path) as again:
        assert again.status() == {"waiting": 1, "running": 0, "done": 1, "failed": 1}


def test_a_migration_that_breaks_off_leaves_the_old_store(path, monkeypatch):
    format_1(path)
    monkeypatch.setitem(
        schema.STEPS, 1, lambda connection: schema.run(connection, "DROP TABLE cells; SELECT * FROM no")
    )
    with pytest.raises(InputError, match="no such table"):
        Store(path)
    monkeypatch.undo()
    with Store(path) as store:
        assert store.status()["done"] == 1


def test_the_tables_of_a_migrated_store_are_those_of_a_new_one(path, tmp_path):
    def tables(file):
        with Store(file, create=True) as store:
            return sorted(
                store._file.sqlite.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            )

    format_1(path)
    assert tables(path) == tables(tmp_path / "new.db")


def test_a_store_of_a_later_version_is_refused(path, store):
    store._file.sqlite.execute(f"PRAGMA user_version = {schema.FORMAT + 1}")
    with pytest.raises(InputError, match=f"has format {schema.FORMAT + 1}.*install a later version"):
        Store(path)


@pytest.mark.parametrize("number", [-1, 0])
def test_a_store_of_a_format_that_no_version_writes_is_refused(path, store, number):
    store._file.sqlite.execute(f"PRAGMA user_version = {number}")
    with pytest.raises(InputError, match=f"has format {number}, which no version of deni writes"):
        Store(path)


def test_a_file_that_is_no_store_is_refused_and_stays(path):
    path.write_text("text,label\nWhere is my parcel?,delivery\n" * 9)
    before = path.read_bytes()
    with pytest.raises(InputError, match="is not a store"):
        Store(path, create=True)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_database_of_another_program_is_refused_and_stays(path):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE cells (key TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match="of another program"):
        Store(path, create=True)
    assert path.read_bytes() == before


def test_a_store_that_is_not_there_is_made_only_when_asked(tmp_path):
    with pytest.raises(InputError, match="no such store"):
        Store(tmp_path / "missing.db")
    with pytest.raises(InputError, match="no folder"):
        Store(tmp_path / "no" / "study.db", create=True)
    with pytest.raises(InputError, match="cannot be opened"):
        Store(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- merging -------------------------------------------------------------------------------------------------------


def filled(path, results=(), failed=(), count=4):
    """A store with these results (cell -> seed of the result) and failures."""
    with Store(path, create=True) as store:
        store.add(planned(count))
        for at, seed in dict(results).items():
            store.finish(planned(count)[at].key, a_result(seed))
        for at in failed:
            store.fail(planned(count)[at].key, "Traceback\nValueError: no")
    return path


def test_merging_takes_results_and_keeps_the_first_of_two(tmp_path):
    a = filled(tmp_path / "a.db", {0: 0, 1: 1}, [2])
    b = filled(tmp_path / "b.db", {0: 0, 1: 9, 2: 2}, [3], count=5)
    ((name, merged),) = merge_files(a, [b])
    assert (name, merged.new, merged.completed) == (str(b), 1, 1)
    assert merged.conflicts == (planned()[1].key,)
    with Store(a) as store:
        assert [row.status for row in store.results(None)] == ["done", "done", "done", "failed", "waiting"]
        for at in range(3):
            np.testing.assert_array_equal(store.outputs(planned()[at].key).log_probs, a_result(at).log_probs)
        assert [row.reason for row in store.results("failed")] == ["ValueError: no"]
        assert [row.traceback for row in store.results()] == ["", "", ""]


def test_merging_into_a_new_file_leaves_the_others_alone(tmp_path):
    a, b = filled(tmp_path / "a.db", {0: 0}), filled(tmp_path / "b.db", {1: 1})
    with Store(b) as running:
        running.claim([planned()[3].key])
    merge_files(tmp_path / "all.db", [a, b])
    with Store(tmp_path / "all.db") as store:
        assert store.status() == {"waiting": 2, "running": 0, "done": 2, "failed": 0}
    with Store(a) as store:
        assert store.status()["done"] == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.db", "all.db", "b.db"]


def test_a_merge_that_fails_writes_nothing(tmp_path):
    a = filled(tmp_path / "a.db")
    (tmp_path / "b.db").write_text("no store, but a text that is long enough " * 9)
    with pytest.raises(InputError, match=r"b\.db: is not a store"):
        merge_files(tmp_path / "all.db", [a, tmp_path / "b.db"])
    with pytest.raises(InputError, match="named twice"):
        merge_files(a, [a])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.db", "b.db"]


def test_looking_at_rows_does_not_read_the_arrays(store):
    for key in keys(store):
        store.finish(key, a_result())
    asked: list[str] = []
    store._file.sqlite.set_trace_callback(asked.append)
    assert len(list(store.results())) == 4
    assert not [each for each in asked if "arrays" in each]
    assert json.loads(canonical(next(store.results()).decides)) == planned()[0].decides


def test_predictions_without_their_cell_are_damaged(path, store):
    """As where an index does not fit its table."""
    (job,) = planned(1)
    store.add([job], "study")
    store.finish(job.key, a_result())
    store._file.sqlite.execute("PRAGMA foreign_keys = OFF")
    store._file.sqlite.execute("DELETE FROM cells")
    with pytest.raises(DamagedCellError, match="its row is not found by its key"):
        store.outputs(job.key)
