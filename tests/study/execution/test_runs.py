"""Studies that are really trained: packs, runners, faults."""

import gc
import os
import re
import signal
import socket
import sqlite3
import time
import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from click.testing import CliRunner

from deni.cli import main
from deni.engine.module import PopulationModule
from deni.errors import InputError
from deni.models import devices
from deni.models.tokenizing import tokenize
from deni.study.execution import pack
from deni.study.execution.driver import packs_of, run_packs
from deni.study.execution.pack import fit, run_pack
from deni.study.execution.run import Run
from deni.study.execution.runners import OnRay, on_ray, processes
from deni.study.execution.runners.work import work
from deni.study.library import Library
from deni.study.plan import read_study
from deni.study.store.database import Store
from tests.helpers.forked import FORKED, run, start
from tests.helpers.studies import RECIPE, jobs_of


@pytest.fixture
def quick_processes(monkeypatch):
    """Workers are forked from a server that has imported what they need."""
    monkeypatch.setattr(processes, "SPAWN", FORKED)


def integrity(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


# ---- packs -----------------------------------------------------------------------------------------------------------


ENSEMBLE = {"name": "ensemble", "members": 2}


@pytest.mark.parametrize("strategy", ["default", {"name": "deni", "members": 3}, ENSEMBLE])
def test_a_cell_in_a_pack_equals_the_cell_alone_with_dropout_on(study, strategy):
    jobs = jobs_of(study(strategies=[strategy]))
    library = Library()
    together = run_pack(jobs, library)
    for job, result in zip(jobs, together, strict=True):
        (alone,) = run_pack([job], library)
        assert np.allclose(result.log_probs, alone.log_probs, atol=1e-4)
        assert (result.merged is None) == (alone.merged is None) == (strategy in ("default", ENSEMBLE))
        assert result.merged is None or np.allclose(result.merged, alone.merged, atol=1e-4)
        assert result.metrics == alone.metrics
        assert result.cost["member_steps"] == alone.cost["member_steps"]
        assert np.array_equal(result.text_ids, alone.text_ids)
        assert np.array_equal(result.gold, alone.gold)
    assert np.abs(together[0].log_probs - together[1].log_probs).max() > 1e-3


def test_cells_of_several_rates_and_ranks_in_a_pack_equal_each_alone(study):
    tunings = [{"name": "lora", "lora_r": rank, "lora_dropout": dropout} for rank, dropout in ((2, 0.1), (4, 0.0))]
    recipe = {name: value for name, value in RECIPE.items() if name != "learning_rate"}
    rates = {"factor": {"learning_rate": [0.003, 0.03]}, "recipe": recipe}
    file = study(tunings=tunings, seeds=2, strategies=["delayed_ensemble"], **rates)
    (pack,), library = read_study(file).packs, Library()
    assert len(pack) == 8
    together = run_pack(pack, library)
    for job, result in zip(pack, together, strict=True):
        (alone,) = run_pack([job], library)
        assert np.allclose(result.log_probs, alone.log_probs, atol=1e-4)
        assert np.allclose(result.merged, alone.merged, atol=1e-4)
    assert len({round(float(result.log_probs.sum()), 3) for result in together}) == 8


def test_each_text_has_the_prediction_of_its_own(study, tickets, tmp_path):
    frame = pd.read_csv(tickets)  # texts of six words; they are predicted in the order of their lengths
    frame["text"] = [" ".join(text.split()[: 2 + row % 5]) for row, text in enumerate(frame["text"])]
    frame.to_csv(tmp_path / "lengths.csv", index=False)
    own = {"datasets": [{"path": str(tmp_path / "lengths.csv")}], "strategies": [{"name": "deni", "members": 3}]}
    (job, *_), library = jobs_of(study(**own)), Library()
    (result,) = run_pack([job], library)
    _, measured = job.texts(library)
    fitted = fit([job], library)
    tokens = tokenize(measured, fitted.tokenizer, fitted.max_length, fitted.labels)
    assert np.allclose(result.log_probs, fitted.classifier().members(measured.texts), atol=1e-4)
    assert np.allclose(result.merged, fitted.trainer.predict_merged(tokens)[:, 0], atol=1e-4)


def test_a_result_says_what_it_cost_and_what_it_was_measured_on(study):
    file = study(strategies=[{"name": "deni", "members": 3}])
    jobs = jobs_of(file)
    results = run_pack(jobs, Library())
    for each, result in zip(jobs, results, strict=True):
        assert result.cost["member_steps"] == each.member_steps
        assert result.log_probs.shape == (len(result.gold), 3, 3)
        assert result.cost["tokens"] > 0
        assert result.cost["flops"] > result.cost["tokens"]
        assert result.cost["seconds"] > 0
        assert result.diagnostics["schedule"] == str(each.schedule)
        assert result.environment["threads"] >= 1
        assert 0 <= result.metrics["macro_f1"] <= 1
        assert result.metrics["macro_f1"] == result.metrics["soft_macro_f1"]  # DENI's default
        assert result.metrics["merged_accuracy"] == np.mean(result.merged.argmax(-1) == result.gold)
        assert len(set(result.text_ids)) == len(result.gold)


def test_a_pack_leaves_threads_and_warnings_of_its_process_as_they_were(study):
    before = torch.get_num_threads(), list(warnings.filters)
    done = work(0, jobs_of(study(strategies=["default"], seeds=2)), torch.get_num_threads() + 1, None, None)
    assert not done.error
    assert (torch.get_num_threads(), list(warnings.filters)) == before


def test_a_run_without_a_number_for_its_loss_fails(study):
    results = run_pack(jobs_of(study(recipe={**RECIPE, "learning_rate": 1e30})), Library())
    assert all(isinstance(each, str) and each.startswith("deni.errors.TrainingDivergedError") for each in results)


@pytest.mark.skipif(
    torch.cuda.is_available() or not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux and no GPU"
)
def test_the_peak_of_memory_is_that_of_the_cell(study):
    (job,) = jobs_of(study(seeds=1))
    held = np.ones(2**28, dtype=np.uint8)  # 256 MiB, gone before the cell begins
    before = psutil.Process().memory_info().rss
    del held
    (result,) = run_pack([job], Library())
    assert result.cost["peak_bytes"] < before


def test_a_trained_cell_leaves_no_tensors_behind(study):
    def kept():
        gc.collect()
        return sum(each.nbytes for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter))

    jobs, library = jobs_of(study(strategies=[{"name": "ensemble", "members": 2}])), Library()
    after = [kept() for job in jobs if run_pack([job], library)]
    assert after[0] == after[1] == after[2]


# ---- devices ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu", "cuda:0", "cuda:1"])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("device", "gpus", "of_a_process"),
    [(None, [0, 1], None), ("cuda", [0, 1], None), ("cuda:1", [1], None), ("cpu", [], "cpu")],
)
def test_processes_take_the_gpus_of_the_device_in_turn(study, monkeypatch, two_gpus, device, gpus, of_a_process):
    study, begun = read_study(study(seeds=1)), []
    monkeypatch.setattr("deni.study.execution.run.Processes", lambda *given: begun.append(given))
    run = Run(study, study.jobs, device=device, runner="processes", threads=1)
    run._started()
    assert begun == [(max(len(gpus), 1), 1, gpus, None, of_a_process)]


def test_ray_chooses_the_gpu_itself(study, two_gpus):
    study = read_study(study(seeds=1))
    assert Run(study, [], device="cpu", runner="ray").gpus_per_worker == 0
    assert Run(study, [], device="cuda", runner="ray").gpus_per_worker == 1
    with pytest.raises(InputError, match="--device is auto, cpu or cuda, not cuda:1"):
        Run(study, [], device="cuda:1", runner="ray")


def test_a_gpu_of_a_process_is_one_that_its_parent_sees(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [processes._visible(gpu) for gpu in range(2)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,GPU-8f3a")
    assert [processes._visible(gpu) for gpu in range(2)] == ["6", "GPU-8f3a"]


@pytest.mark.parametrize("device", [None, "cpu", "cuda:1"])
def test_a_pack_trains_on_the_device_that_the_study_was_given(study, tmp_path, monkeypatch, two_gpus, device):
    asked = []

    def fine_tune(*_, device, **__):
        asked.append(device)
        raise InputError("nothing is trained here")

    monkeypatch.setattr("deni.study.execution.pack.fine_tune", fine_tune)
    monkeypatch.setattr("deni.study.execution.pack._forget_peak", lambda device: None)
    trained(study(strategies=["default"], seeds=1), tmp_path / "store.db", pack=1, device=device)
    assert asked == [device]


# ---- runners ---------------------------------------------------------------------------------------------------------


def trained(file, path, **how):
    study = read_study(file)
    with Store(path, create=True) as store:
        failed = Run(study, study.jobs, threads=1, progress=False, **how).into(store)
        return failed, {row.key: store.outputs(row.key).log_probs for row in store.results()}


def test_processes_give_what_this_process_gives(study, tmp_path):
    file = study(strategies=["default", {"name": "deni", "members": 2}])
    failed, serial = trained(file, tmp_path / "serial.db", pack=3)
    assert failed == 0
    assert len(serial) == 6
    failed, processes = trained(file, tmp_path / "processes.db", pack=3, runner="processes", workers=2)
    assert failed == 0
    assert serial.keys() == processes.keys()
    assert all(np.array_equal(serial[key], processes[key]) for key in serial)


def test_ray_gives_what_this_process_gives(study, tmp_path):
    pytest.importorskip("ray", reason="needs the extra ray")
    file = study()
    _, serial = trained(file, tmp_path / "serial.db", pack=3)
    failed, others = trained(file, tmp_path / "ray.db", pack=3, runner="ray", workers=1)
    assert failed == 0
    assert all(np.array_equal(serial[key], others[key]) for key in serial)


def children(of):
    """Name and process of what a process started, and what that started."""
    for each in of.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            yield " ".join(each.cmdline()), each


def test_a_study_whose_ray_head_is_killed_ends_in_one_line_and_is_finished_later(study, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr(on_ray, "OWN_PATIENCE", 1.0)
    file, path = study(seeds=20), tmp_path / "study.db"
    killed = []

    def kill_head(news):
        if news.what == "done" and not killed:
            killed.extend(each for name, each in children(psutil.Process()) if "gcs_server" in name)
            killed[0].kill()

    whole = read_study(file)
    with Store(path, create=True) as store:
        store.add(whole.jobs)
        # Ray itself would kill this process after a minute, and say nothing to the caller.
        with pytest.raises(InputError, match=r"the Ray cluster at [\d.:]+ is gone .*: finished cells are safe"):
            run_packs(packs_of(whole.jobs, lambda _: 1), store, OnRay(1, 1), kill_head)
        before = {row.key: row.finished for row in store.results()}
        assert 0 < len(before) < 20
        assert [row.traceback for row in store.results("failed")] == []
        assert store.status() == {"waiting": 20 - len(before), "running": 0, "done": len(before), "failed": 0}
    assert integrity(path) == "ok"
    failed, _ = trained(file, path, pack=20)
    assert failed == 0
    with Store(path) as store:
        after = {row.key: row.finished for row in store.results()}
    assert len(after) == 20
    assert before.items() <= after.items()  # none was trained twice


def test_a_head_that_falls_silent_does_not_hold_the_driver(monkeypatch):
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setattr(on_ray, "OWN_PATIENCE", 1.0)
    monkeypatch.setattr(on_ray, "GOODBYE", 1.0)
    runner = OnRay(1, 1)
    started = list(children(psutil.Process(runner._process.pid)))
    (head,) = (each for name, each in started if "gcs_server" in name)
    runner.submit(0, [])
    head.suspend()  # it closes no connection, as a host that lost its power: Ray itself would wait for minutes
    monkeypatch.setattr(on_ray, "_answers", lambda address: False)
    began = time.monotonic()
    with pytest.raises(
        InputError, match=r"is gone \(its head has not answered for 1 seconds\): finished cells are safe"
    ):
        runner.wait()
    runner.close()
    assert time.monotonic() - began < 20
    assert psutil.wait_procs([each for _, each in started], timeout=10)[1] == []


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "nowhere:a"])
def test_an_address_without_a_ray_cluster_is_said_at_once(address):
    pytest.importorskip("ray", reason="needs the extra ray")
    with socket.socket() as bound:  # it does not listen
        bound.bind(("127.0.0.1", 0))
        address = address.format(bound.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(InputError, match=f"no Ray cluster at {address}: nothing answers there"):
            OnRay(1, 1, address)
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("quick_processes")
def test_a_study_goes_on_after_a_worker_is_killed(study, tmp_path, monkeypatch):
    file = study(seeds=4)
    whole = read_study(file)
    killed = []

    with Store(tmp_path / "study.db", create=True) as store:
        running = Run(whole, whole.jobs, threads=1, pack=1, runner="processes", workers=2, progress=False)
        started = running._started

        def start():
            runner = started()
            submit = runner.submit

            def submit_and_kill(number, cells):
                submit(number, cells)
                if len(killed) < 2:
                    worker = next(each for each in runner._workers if each.number == number)
                    os.kill(worker.process.pid, signal.SIGKILL)
                    killed.append(worker.process.pid)

            monkeypatch.setattr(runner, "submit", submit_and_kill)
            return runner

        monkeypatch.setattr(running, "_started", start)
        assert running.into(store) == 0
        assert store.status()["done"] == 4
    assert len(set(killed)) == 2
    assert integrity(tmp_path / "study.db") == "ok"


def test_a_killed_study_is_finished_by_the_same_command(study, tmp_path):
    file, path = study(seeds=6), tmp_path / "study.db"
    how = (file, "--store", str(path), "--runner", "processes", "--workers", "1", "--pack", "1", "--threads", "1")
    command = "from deni.cli import main; main()"
    driver = start(command, "study", "run", *how)
    deadline = time.monotonic() + 120
    done = 0
    while not done and time.monotonic() < deadline:
        time.sleep(0.05)
        if path.exists():
            with Store(path) as store:
                done = store.status()["done"]
    driver.process.kill()
    driver.wait()
    assert integrity(path) == "ok"
    with Store(path) as store:
        before = {row.key: row.finished for row in store.results()}
    assert 0 < len(before) < 6
    run(command, "study", "run", *how)
    with Store(path) as store:
        after = {row.key: row.finished for row in store.results()}
    assert len(after) == 6
    assert before.items() <= after.items()  # none was trained twice
    assert integrity(path) == "ok"


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_trains_what_is_left_and_says_how_far_it_is(study, tmp_path):
    path = str(tmp_path / "study.db")
    first = CliRunner().invoke(main, ["study", "run", study(seeds=2), "--store", path])
    assert first.exit_code == 0, first.output
    assert "2 of 2 done, 0 running, 0 failed" in first.output
    again = CliRunner().invoke(main, ["study", "run", study(seeds=3), "--store", path, "--pack", "2"])
    assert "3 cells in 1 pack, 1 of them to train" in again.output
    assert "3 of 3 done" in again.output
    with Store(path) as store:
        assert [row.attempts for row in store.results()] == [1, 1, 1]


def test_after_so_many_minutes_the_rest_is_left_to_the_same_command(study, tmp_path):
    path = str(tmp_path / "study.db")
    how = ["study", "run", study(seeds=4), "--store", path, "--pack", "1", "--threads", "1", "--no-progress"]
    first = CliRunner().invoke(main, [*how, "--minutes", "0.001"])
    assert first.exit_code == 0, first.output
    with Store(path) as store:
        found = store.status()
    left = found["waiting"]
    assert (left > 0, found) == (True, {"waiting": left, "running": 0, "done": 4 - left, "failed": 0})
    assert f"{left} of 4 cells are left: the same command goes on" in first.output.splitlines()
    again = CliRunner().invoke(main, [*how, "--minutes", "60"])
    assert f"4 cells in 1 pack, {left} of them to train" in again.output
    assert "left" not in again.output
    with Store(path) as store:
        assert [row.attempts for row in store.results()] == [1, 1, 1, 1]


def test_cells_on_development_texts_stay_apart_from_those_on_test_texts(study, tmp_path):
    """The same grid measured on both parts in one store: trained, reported, archived and merged."""
    path, page, table = (str(tmp_path / name) for name in ("study.db", "page.html", "cells.csv"))
    for measure in ("development", "test"):
        how = ["--store", path, "--pack", "2", "--threads", "1"]
        done = CliRunner().invoke(main, ["study", "run", study(seeds=2, labelled=12, measure=measure), *how])
        assert done.exit_code == 0, done.output
        assert ("measured on a dev split" in done.output) == (measure == "development")
    measured: dict[str, set[int]] = {}
    with Store(path) as store:
        rows = list(store.results())
        for row in rows:
            measured.setdefault(row.cell.measure, set()).update(store.outputs(row.key).text_ids.tolist())
    assert {name: len(ids) for name, ids in measured.items()} == {"development": 6, "test": 7}
    assert not measured["development"] & measured["test"]
    status = CliRunner().invoke(main, ["study", "status", path]).output
    assert "measured on a dev split, not on test texts: 2 of 4 cells" in status.splitlines()
    assert CliRunner().invoke(main, ["study", "export", path, "--output", table]).exit_code == 0
    assert pd.read_csv(table)["measure"].tolist() == ["development"] * 2 + ["test"] * 2
    archive, again = str(tmp_path / "study.parquet"), str(tmp_path / "again.db")
    assert CliRunner().invoke(main, ["study", "export", path, "--archive", "--output", archive]).exit_code == 0
    assert CliRunner().invoke(main, ["study", "merge", again, archive]).exit_code == 0
    with Store(again) as store:
        assert [(row.key, row.cell) for row in store.results()] == [(row.key, row.cell) for row in rows]
    assert CliRunner().invoke(main, ["report", again, "--output", page]).exit_code == 0
    assert "tickets.csv, dev split" in (tmp_path / "page.html").read_text()


def test_failed_cells_stay_failed_until_they_are_retried(study, tmp_path):
    path = str(tmp_path / "study.db")
    file = study(strategies=["default"], seeds=2, recipe={**RECIPE, "learning_rate": 1e30})
    first = CliRunner().invoke(main, ["study", "run", file, "--store", path])
    assert first.exit_code == 1
    assert "2 cells failed" in first.output
    assert "0 of them to train" in CliRunner().invoke(main, ["study", "run", file, "--store", path]).output
    assert "2 cells wait again" in CliRunner().invoke(main, ["study", "retry", path]).output
    assert "2 of them to train" in CliRunner().invoke(main, ["study", "run", file, "--store", path]).output


@pytest.mark.parametrize(
    ("strategy", "passes"), [("default", 1), ({"name": "deni", "members": 3}, 3 + 1), (ENSEMBLE, 2)]
)
def test_each_member_reads_a_test_text_once(study, strategy, passes, monkeypatch):
    """And so does the mean of the members, where they forked."""
    jobs = jobs_of(study(strategies=[strategy], seeds=2))
    library = Library()
    texts = len(jobs[0].texts(library)[1])
    read, forward = [], PopulationModule.forward

    def noting(module, **inputs):
        if not module.training:
            read.append(len(inputs["input_ids"]))
        return forward(module, **inputs)

    def trained(*args):
        result = fit(*args)
        read.clear()  # what training reads are other texts
        return result

    with monkeypatch.context() as patched:
        patched.setattr(PopulationModule, "forward", noting)
        patched.setattr(pack, "fit", trained)
        run_pack(jobs, library)
    assert sum(read) == texts * len(jobs) * passes


def test_a_dry_run_says_how_long_it_takes_and_writes_nothing(study, tmp_path):
    path = tmp_path / "study.db"
    said = CliRunner().invoke(main, ["study", "run", study(), "--store", str(path), "--dry-run", "--threads", "1"])
    assert said.exit_code == 0, said.output
    assert re.search("About [0-9]+ s with 1 worker of 1 threads", said.output)
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pack", "many"], "--pack is a number of cells, or auto, not 'many'"),
        (["--workers", "2"], "--runner serial has one worker, not 2"),
        (["--address", "auto"], "--address and --gpus-per-worker need --runner ray"),
    ],
)
def test_options_that_do_not_fit_are_said_in_one_line(study, tmp_path, options, message):
    said = CliRunner().invoke(main, ["study", "run", study(), "--store", str(tmp_path / "study.db"), *options])
    assert said.exit_code == 2
    assert message in said.output
