import io
import json

import pandas as pd
import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.study.cell import CellResult
from deni.study.plan import read_study
from deni.study.store.database import Store

STUDY = """\
name: a test
datasets: [{file}]
models: [{model}]
strategies: [default, {{name: deni, members: 3}}, prior_noise+deni]
labelled: 12
seeds: 2
recipe: {{batch_size: 4, epochs: 4}}
"""


def run(*args):
    return CliRunner().invoke(main, ["study", *map(str, args)], env={"COLUMNS": "100"})


@pytest.fixture
def study(tmp_path, model_folder, tickets):
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.format(file=tickets, model=model_folder))
    return file


@pytest.fixture
def db(study, tmp_path):
    """A store with all cells: one done, one failed."""
    path = tmp_path / "study.db"
    with Store(path, create=True) as store:
        read = read_study(study)
        store.add(read.jobs, read.name)
        done, failed, running = (each.key for each in read.jobs[:3])
        store.claim([done, failed, running])
        result = CellResult([[[0.0, -1.0, -2.0]]], [0], [7], ("a", "b", "c"), "d", {"macro_f1": 0.5}, {"seconds": 2.0})
        store.finish(done, result)
        store.fail(failed, "Traceback\nRuntimeError: out of memory")
    return path


def words(line):
    return [each for each in line.replace("│", " ").split() if each]


def test_a_dry_run_says_what_a_study_costs_and_writes_nothing(study, tmp_path):
    result = run("run", study, "--store", tmp_path / "new.db", "--dry-run")
    assert result.exit_code == 0, result.output
    rows = [words(line) for line in result.output.splitlines()]
    assert rows[0] == ["a", "test:", "6", "cells", "in", "3", "packs,", "6", "of", "them", "to", "train"]
    planned = {each.cell.strategy.name: each.member_steps for each in read_study(study).jobs}
    assert planned["default"] == 12
    assert ["default", "full", "2", "1", "12", "24", "24"] in rows
    assert ["deni", "(members=3)", "full", "2", "1", "12", *[str(2 * planned["deni"])] * 2] in rows
    assert ["all", "6", "3", *[str(2 * sum(planned.values()))] * 2] in rows
    assert not (tmp_path / "new.db").exists()


def test_no_figure_is_cut_short_in_a_narrow_terminal(study, tmp_path):
    study.write_text(study.read_text().replace("seeds: 2", "seeds: 200").replace("epochs: 4", "epochs: 400"))
    command = ["study", "run", str(study), "--store", str(tmp_path / "new.db"), "--dry-run"]
    output = CliRunner().invoke(main, command, env={"COLUMNS": "70"}).output
    total = sum(each.member_steps for each in read_study(study).jobs)
    assert total > 1_000_000
    assert ["all", "600", "3", str(total), str(total)] in [words(line) for line in output.splitlines()]


def test_a_dry_run_counts_what_is_done_already(study, db):
    output = run("run", study, "--store", db, "--dry-run").output
    assert "6 cells in 3 packs, 4 of them to train" in output
    assert ["default", "full", "2", "1", "12", "24", "0"] in [words(line) for line in output.splitlines()]


def test_varying_all_is_said_to_be_another_experiment(study, tmp_path):
    study.write_text(study.read_text() + "vary: all\n")
    output = run("run", study, "--store", tmp_path / "new.db", "--dry-run").output
    assert "seeds vary all, another experiment" in output.splitlines()[0]


def test_a_mistake_in_a_study_is_one_line_with_its_place(study, tmp_path):
    study.write_text(study.read_text().replace("members", "membrs"))
    result = run("run", study, "--store", tmp_path / "new.db", "--dry-run")
    assert result.exit_code == 2
    said = "study.yaml, line 4: strategies[1].membrs: no such setting of deni; did you mean members?"
    assert result.stderr == f"Error: {study.parent}/{said}\n"


def test_status_counts_and_says_why_cells_failed(db):
    lines = run("status", db).output.splitlines()
    assert lines[0] == "3 waiting, 1 running, 1 done, 1 failed"
    assert ["default", "tickets.csv", "1", "0", "1", "0"] in [words(line) for line in lines]
    assert ["deni", "(members=3)", "tickets.csv", "0", "1", "0", "1"] in [words(line) for line in lines]
    (failed,) = [line for line in lines if line.startswith("failed:")]
    assert failed.endswith("12 labeled, seed 1 (attempt 1): RuntimeError: out of memory")


def test_retry_lets_failed_cells_wait(db):
    with Store(db) as store:
        (key,) = [row.key for row in store.results("failed")]
    assert "no failed cell abc" in run("retry", db, "--key", "abc").stderr
    assert run("retry", db, "--key", key[:8]).output == "1 cells wait again\n"
    assert run("retry", db).output == "0 cells wait again\n"


READ = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda file: pd.read_json(file, lines=True)}


@pytest.mark.parametrize("kind", READ)
def test_an_export_has_every_setting_metric_and_cost(db, tmp_path, kind):
    output = tmp_path / f"cells.{kind}"
    assert run("export", db, "--output", output).output == f"wrote 6 cells to {output}\n"
    frame = READ[kind](output)
    assert frame["status"].tolist() == ["done", "failed", "running", "waiting", "waiting", "waiting"]
    assert frame["strategy.name"].tolist() == ["default"] * 2 + ["deni"] * 2 + ["prior_noise+deni"] * 2
    assert frame["seed"].tolist() == [0, 1] * 3
    assert frame["strategy.settings.members"].dropna().tolist() == [3, 3]
    assert frame["strategy.settings.deni.members"].dropna().tolist() == [10, 10]  # a default
    assert (frame["recipe.epochs"].unique().tolist(), frame["recipe.learning_rate"].notna().all()) == ([4], True)
    assert frame["metrics.macro_f1"].dropna().tolist() == [0.5]
    assert frame["cost.seconds"].dropna().tolist() == [2.0]
    assert json.loads(frame["labels"][0]) == ["a", "b", "c"]
    again = run("export", db, "--output", output)
    assert (again.exit_code, again.stderr.startswith("Error: ")) == (2, True)
    assert run("export", db, "--output", output, "--overwrite").exit_code == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == [output.name, "study.db", "study.yaml"]


def test_an_export_needs_a_format(db, tmp_path):
    result = run("export", db, "--output", tmp_path / "cells.txt")
    assert result.exit_code == 2
    assert "give --format" in result.stderr
    assert run("export", db, "--output", tmp_path / "cells.txt", "--format", "csv").exit_code == 0
    assert len(pd.read_csv(io.StringIO((tmp_path / "cells.txt").read_text()))) == 6


def test_merge_says_what_came_of_it(db, study, tmp_path):
    other = tmp_path / "other.db"
    with Store(other, create=True) as store:
        store.add(read_study(study).jobs)
        for row in store.waiting()[:2]:
            store.finish(row.key, CellResult([[[-9.0]]], [0], [7], ("a",), "d"))
    result = run("merge", db, other)
    assert result.stdout == f"{other}: 0 new cells, 1 others done now\n"
    assert "has another result of 1 cells" in result.stderr
    assert (
        run("merge", tmp_path / "all.db", db, other).stdout.splitlines()[0] == f"{db}: 6 new cells, 0 others done now"
    )
    assert run("status", tmp_path / "all.db").output.splitlines()[0] == "4 waiting, 0 running, 2 done, 0 failed"


@pytest.mark.parametrize("command", ["status", "retry", "export"])
def test_a_store_that_is_not_there_is_one_line(tmp_path, command):
    extra = ["--output", tmp_path / "cells.csv"] if command == "export" else []
    result = run(command, tmp_path / "missing.db", *extra)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {tmp_path}/missing.db: no such store: check the path; `deni study run` makes one\n"
    )
    assert list(tmp_path.iterdir()) == []
