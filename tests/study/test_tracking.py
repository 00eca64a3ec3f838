"""Cells of a study as runs of MLflow."""

import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.study.store.database import Store
from deni.study.tracking import KEY, CellLog
from tests.helpers.studies import writer

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")


@pytest.fixture
def tracked(tmp_path, monkeypatch):
    """The client of a new store of MLflow."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    return mlflow.MlflowClient()


def run(tmp_path, *words):
    given = [
        "study",
        "run",
        f"{tmp_path}/study.yaml",
        "--store",
        f"{tmp_path}/study.db",
        "--no-progress",
        "--pack",
        "1",
    ]
    done = CliRunner().invoke(main, [*given, "--device", "cpu", *words])
    assert done.exit_code == 0, done.output


def test_each_cell_that_is_done_has_one_run_with_its_settings_and_metrics(tmp_path, tickets, model_folder, tracked):
    study = writer(tmp_path / "study.yaml", tickets, model_folder)
    study(seeds=1)
    run(tmp_path)  # not logged: nobody asked
    assert [each.name for each in tracked.search_experiments()] == ["Default"]
    study(seeds=2)
    run(tmp_path, "--report-to", "mlflow")
    with Store(tmp_path / "study.db") as store:
        rows = {row.key: row for row in store.results("done")}
        (name,) = {row.study for row in rows.values()}
    place = [tracked.get_experiment_by_name(name).experiment_id]
    found = {each.data.tags[KEY]: each for each in tracked.search_runs(place)}
    assert found.keys() == rows.keys()
    assert len(rows) == 2
    for key, row in rows.items():
        params, metrics = found[key].data.params, found[key].data.metrics
        assert (params["seed"], params["strategy.name"]) == (str(row.cell.seed), row.cell.strategy.name)
        assert params["dataset.name"] == row.cell.dataset["name"]
        assert metrics["macro_f1"] == row.metrics["macro_f1"]
        assert metrics["member_steps"] == row.cost["member_steps"]

    # What a killed process left behind is made anew, and nothing is logged twice.
    tracked.delete_run(found[key].info.run_id)
    tracked.create_run(place[0], tags={KEY: key})
    run(tmp_path, "--report-to", "mlflow")
    again = tracked.search_runs(place)
    assert sorted(each.data.tags[KEY] for each in again) == sorted(rows)
    assert {each.info.status for each in again} == {"FINISHED"}
    run(tmp_path, "--report-to", "mlflow")
    assert {each.info.run_id for each in tracked.search_runs(place)} == {each.info.run_id for each in again}
    with Store(tmp_path / "study.db") as store:
        assert {row.key for row in store.results(None)} == rows.keys()


def test_a_store_of_mlflow_that_cannot_be_used_is_one_line(tmp_path, tickets, model_folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://here")
    writer(tmp_path / "study.yaml", tickets, model_folder)(seeds=1)
    words = ["study", "run", f"{tmp_path}/study.yaml", "--store", f"{tmp_path}/study.db", "--report-to", "mlflow"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "--report-to mlflow cannot log to nowhere://here" in done.output
    assert not (tmp_path / "study.db").exists()


def test_what_mlflow_does_not_take_later_is_a_warning(monkeypatch):
    log = object.__new__(CellLog)
    log._logged = set()

    def fail(row):
        raise mlflow.exceptions.MlflowException("gone")

    monkeypatch.setattr(log, "_log", fail)

    class Row:
        key = "k"

    with pytest.warns(UserWarning, match="MLflow has not all cells .gone.: the same command logs them later"):
        log.log([Row()])
