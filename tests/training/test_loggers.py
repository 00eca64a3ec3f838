"""The curves of a training, read back as TensorBoard, Weights & Biases and MLflow read them."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from click.testing import CliRunner

from deni.cli import main
from deni.commands.train import train_file
from deni.data import read_texts
from deni.errors import InputError
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.training import loggers as curves
from deni.training.curves import curves_folder
from deni.training.manifest import checkpoint_folder
from deni.training.trainer import PopulationTrainer

SETTINGS = {"strategy_settings": {"members": 3}, "epochs": 2}


def curves_of(folder):
    """Tag -> [(step, value)] of all event files in a folder."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    found = {}
    for file in sorted(folder.rglob("events.out.*")):
        events = reader.EventAccumulator(str(file))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, []).extend((each.step, each.value) for each in events.Scalars(tag))
    return found


def train(tickets, model_folder, output, **more):
    plan = Recipe.of(None, "deni", model=model_folder, **SETTINGS)
    return train_file(tickets, recipe=plan, output=output, dev="0.2", progress=False, **more)


def test_tensorboard_gets_the_curves_that_the_trainer_logs(tickets, model_folder, tmp_path):
    pytest.importorskip("tensorboard")
    done = train(tickets, model_folder, tmp_path / "model", report_to="tensorboard")
    (folder,) = (tmp_path / "model.runs").iterdir()
    written, trainer = curves_of(folder), done.result.trainer
    history = trainer.state.log_history
    schedule = done.result.schedule
    losses = [(each["step"], each["loss"]) for each in history if "loss" in each]
    assert len(losses) == schedule.steps
    assert np.array(written["train/loss"]) == pytest.approx(np.array(losses))
    assert written["train/members"] == [(step, schedule.at(step - 1).members) for step, _ in losses]
    phases = [written["train/phase"][each.start][1] for each in schedule]
    assert phases == list(range(1, len(schedule) + 1))
    records = trainer.diagnostics.records
    apart = [value for each in records for value in (each.start.distance, each.end.distance)]
    assert [value for _, value in written["train/members_distance"]] == pytest.approx(apart, abs=1e-6)
    assert [step for step, _ in written["train/members_disagreement"]] == [
        step for each in records for step in (each.step, each.stop)
    ]
    excess = [value for each in records for value in each.excess]
    assert [value for _, value in written["train/members_excess_loss"]] == pytest.approx(excess, abs=1e-6)
    assert all(value > 0 for _, value in written["train/members_loss_sd"])
    assert len(written["eval/macro_f1"]) == 2
    assert written["test/macro_f1"] == [(schedule.steps, pytest.approx(done.metrics["macro_f1"]))]
    assert not checkpoint_folder(tmp_path / "model").exists() or done.result.checkpoint


def test_a_resumed_run_goes_on_in_its_own_folder(tmp_path):
    first = curves_folder(tmp_path / "model", resume=False)
    assert curves_folder(tmp_path / "model", resume=True).parent == first.parent
    first.mkdir(parents=True)
    (first.parent / "1999-01-01_00-00-00").mkdir()
    assert curves_folder(tmp_path / "model", resume=True) == first


def test_nothing_is_written_unless_asked(tickets, model_folder, tmp_path):
    train(tickets, model_folder, tmp_path / "model")
    assert not (tmp_path / "model.runs").exists()


@pytest.mark.parametrize("tool", ["tensorboard", "wandb", "mlflow"])
def test_a_tool_that_is_missing_is_said_before_anything_is_read(monkeypatch, tmp_path, tool):
    monkeypatch.setattr(curves, f"is_{tool}_available", lambda: False)
    (tmp_path / "no.csv").write_text("no table")
    arguments = [str(tmp_path / "no.csv"), "--output", str(tmp_path / "m"), "--report-to", tool]
    said = CliRunner().invoke(main, ["train", *arguments])
    assert said.exit_code == 2
    assert said.output == f'Error: --report-to {tool} needs the package {tool}: pip install "deni[{tool}]"\n'


def history_of(file):
    """The rows of an offline run of W&B: records of protobuf in LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, rows, part = file.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:  # of a block: too few for a head
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            if record.WhichOneof("record_type") == "history":
                rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
    return rows


def test_wandb_gets_the_same_curves(tickets, model_folder, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    done = train(tickets, model_folder, tmp_path / "model", report_to="wandb")
    wandb.teardown()  # waits until the file is written
    (file,) = tmp_path.rglob("run-*.wandb")
    rows = history_of(file)
    history = done.result.trainer.state.log_history
    for name in ("loss", "members", "phase", "members_distance", "members_excess_loss"):
        want = [(each["step"], each[name]) for each in history if name in each]
        assert [(row["train/global_step"], row[f"train/{name}"]) for row in rows if f"train/{name}" in row] == want
    assert [row["test/macro_f1"] for row in rows if "test/macro_f1" in row] == [done.metrics["macro_f1"]]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """MLflow's database, which takes seconds to make."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db"


@pytest.fixture
def client(store, tmp_path, monkeypatch):
    """A client of MLflow; trainings log to the same database, in an experiment with the name of the test's folder."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    monkeypatch.chdir(tmp_path)
    return mlflow.MlflowClient(store)


def runs_of(client, tmp_path):
    return client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])


def test_mlflow_gets_the_same_curves_the_settings_and_the_test_scores_in_one_run(
    tickets, model_folder, tmp_path, client
):
    import mlflow

    done = train(tickets, model_folder, tmp_path / "model", report_to="mlflow")
    (run,) = runs_of(client, tmp_path)
    assert mlflow.active_run() is None
    assert (run.info.status, run.info.run_name) == ("FINISHED", "model")
    given = {"recipe.strategy.name": "deni", "recipe.strategy.settings.members": "3", "recipe.epochs": "2"}
    assert {name: run.data.params[name] for name in given} == given
    assert float(run.data.params["learning_rate"]) == done.result.recipe.rate
    history = done.result.trainer.state.log_history
    for name in ("loss", "members", "phase", "members_distance", "members_excess_loss", "eval_macro_f1"):
        want = [(each["step"], each[name]) for each in history if name in each]
        found = sorted(client.get_metric_history(run.info.run_id, name), key=lambda each: each.step)
        assert np.array([(each.step, each.value) for each in found]) == pytest.approx(np.array(want))
        assert want
    assert run.data.metrics["test_macro_f1"] == done.metrics["macro_f1"]


def test_a_resumed_training_goes_on_in_its_run_of_mlflow(tickets, model_folder, tmp_path, client, monkeypatch):
    with monkeypatch.context() as patch:
        step, steps = PopulationTrainer.training_step, []

        def interrupted(*arguments, **options):
            steps.append(1)
            if len(steps) == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return step(*arguments, **options)

        patch.setattr(PopulationTrainer, "training_step", interrupted)
        assert train(tickets, model_folder, tmp_path / "model", report_to="mlflow").result.interrupted
    (begun,) = runs_of(client, tmp_path)
    shutil.copytree(tmp_path / "model.checkpoints", tmp_path / "kept")
    done = train(tickets, model_folder, tmp_path / "model", report_to="mlflow", resume=True)
    (run,) = runs_of(client, tmp_path)
    assert (run.info.run_id, run.info.status, run.data.params) == (begun.info.run_id, "FINISHED", begun.data.params)
    found = [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")]
    history = done.result.trainer.state.log_history
    assert sorted(found) == [(each["step"], each["loss"]) for each in history if "loss" in each]
    assert [step for step, _ in sorted(found)] == list(range(1, done.result.schedule.steps + 1))
    assert run.data.metrics["test_macro_f1"] == done.metrics["macro_f1"]
    client.delete_run(run.info.run_id)  # then there is none to go on in
    shutil.copytree(tmp_path / "kept", tmp_path / "other.checkpoints")
    train(tickets, model_folder, tmp_path / "other", report_to="mlflow", resume=True)
    (fresh,) = runs_of(client, tmp_path)
    assert (fresh.info.run_name, fresh.info.status) == ("other", "FINISHED")
    named = client.create_run(fresh.info.experiment_id).info.run_id
    shutil.copytree(tmp_path / "kept", tmp_path / "named.checkpoints")
    monkeypatch.setenv("MLFLOW_RUN_ID", named)  # comes before that of the checkpoint
    train(tickets, model_folder, tmp_path / "named", report_to="mlflow", resume=True)
    assert {each.info.run_id for each in runs_of(client, tmp_path)} == {fresh.info.run_id, named}
    steps = sorted(each.step for each in client.get_metric_history(named, "loss"))
    assert steps == sorted(step for step, _ in found)[-len(steps) :]
    assert 0 < len(steps) < len(found)


def test_a_store_of_mlflow_that_cannot_be_used_is_said_before_the_first_step(
    tickets, model_folder, tmp_path, monkeypatch
):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://here")
    with pytest.raises(InputError, match="--report-to mlflow cannot log to nowhere://here"):
        train(tickets, model_folder, tmp_path / "model", report_to="mlflow")
    assert not (tmp_path / "model").exists()


def test_the_progress_bar_shows_the_last_values_and_prints_no_dictionaries(tickets, model_folder, capfd, monkeypatch):
    monkeypatch.setattr("deni.progress.EVERY", 0)
    monkeypatch.setattr("deni.progress.SHARE", 0)
    plan = Recipe.of(None, "deni", model=model_folder, **SETTINGS)
    fine_tune(read_texts(tickets), plan, progress=True)
    said = capfd.readouterr()
    assert ", loss 1." in said.err
    assert ", members 3" in said.err
    assert "{" not in said.err + said.out
