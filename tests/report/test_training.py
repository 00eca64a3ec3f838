"""The report of one training: what it says, what it leaves out, and that it never costs a model."""

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import deni.artifact
import deni.report.training
from deni.artifact import Classifier
from deni.cli import main
from deni.commands.train import train_file
from deni.errors import InputError, InputWarning
from deni.recipe import Recipe
from deni.report.training import PAGE, TrainingReport
from tests.helpers.chat_server import refusing


def train(path, model_folder, output, report=None, **more):
    settings = {"strategy_settings": {"members": 3}} if "strategy" not in more else {}
    plan = Recipe.of(None, more.pop("strategy", "deni"), model=model_folder, epochs=2, **settings)
    return train_file(path, recipe=plan, output=output, extra_files=report, progress=False, **more)


def run(*args):
    said = CliRunner().invoke(main, [str(arg) for arg in args])
    assert said.exit_code == 0, said.output
    return said.output


@pytest.fixture(scope="module")
def done(tickets, model_folder, tmp_path_factory):
    """A training on the command line: what it printed, and its folder."""
    folder = tmp_path_factory.mktemp("done") / "my model"
    flags = ("--strategy", "deni", "--members", 3, "--epochs", 2, "--dev", 0.2, "--no-progress", "--output", folder)
    return run("train", tickets, "--model", model_folder, *flags), folder


def test_the_command_ends_with_a_report(done):
    output, folder = done
    flat = " ".join(output.split())
    info = json.loads((folder / "deni.json").read_text())
    score = 100 * info["metrics"]["macro_f1"]
    assert f"expected macro F1 {score:.1f} (95 % interval" in flat
    assert "other test texts, not other seeds; fewer than 50 texts: likely too narrow" in flat
    for part in ("accuracy against chance", "cost", "most uncertain", "confusion matrix"):
        assert part in flat
    assert f"{info['member_steps']} member-steps" in flat
    assert (folder / PAGE).read_text().startswith("<!doctype html>")


def test_the_page_says_how_to_repeat_it(done, tickets):
    text = (done[1] / PAGE).read_text()
    assert f"deni train {tickets} --model" in text
    assert f"--output &#39;{done[1]}&#39;" in text
    assert "python -m pip install deni==" in text


def test_a_resumed_command_is_repeated_without_resume_and_its_curves_go_on(tickets, model_folder, tmp_path):
    pytest.importorskip("tensorboard")
    flags = ("--model", model_folder, "--epochs", 1, "--strategy", "default", "--no-progress")
    flags = (*flags, "--report-to", "tensorboard")
    output = run("train", tickets, *flags, "--save-steps", 1, "--output", tmp_path / "model")
    assert "curves tensorboard --logdir" in " ".join(output.split())  # the path is broken over lines
    run("train", tickets, *flags, "--output", tmp_path / "model", "--overwrite", "--resume")
    text = (tmp_path / "model" / PAGE).read_text()
    assert "--resume" not in text
    assert len(list((tmp_path / "model.runs").iterdir())) == 1
    assert "counted since it was resumed" in text


def test_texts_are_predicted_once(tickets, model_folder, tmp_path, monkeypatch):
    asked, members = [], Classifier.members
    monkeypatch.setattr(
        Classifier, "members", lambda self, texts, *a: asked.append(len(texts)) or members(self, texts, *a)
    )
    train(tickets, model_folder, tmp_path / "model", TrainingReport("model"))
    assert asked == [7]


@pytest.mark.parametrize(
    ("strategy", "test", "reasons"),
    [
        ("default", "0", {"test", "forks"}),
        ("default", "0.2", {"members", "forks"}),
        ("noisy_interpolation", "0.2", {"members"}),
        ("ensemble", "0.2", set()),
    ],
)
def test_what_is_not_there_is_left_out_with_a_reason(tickets, model_folder, tmp_path, strategy, test, reasons):
    report = TrainingReport("model")
    train(tickets, model_folder, tmp_path / "model", report, strategy=strategy, test=test)
    assert set(report.summary.missing) == reasons
    text = (tmp_path / "model" / PAGE).read_text()
    for reason in report.summary.missing.values():
        assert reason.replace("'", "&#39;") in text


def test_costs_and_curves_are_those_of_the_trainer(tickets, model_folder, tmp_path):
    report = TrainingReport("model")
    done = train(tickets, model_folder, tmp_path / "model", report, dev="0.2")
    summary, trainer = report.summary, done.result.trainer
    assert summary.member_steps == trainer.member_steps == done.result.schedule.cost
    assert summary.cost == pytest.approx(done.result.schedule.cost / done.result.schedule.steps)
    history = trainer.state.log_history
    training = summary.losses[summary.losses["of"] == "training texts"]
    assert training["loss"].tolist() == [each["loss"] for each in history if "loss" in each]
    assert summary.scores["score"].tolist() == [
        100 * each["eval_macro_f1"] for each in history if "eval_macro_f1" in each
    ]
    records = trainer.diagnostics.records
    assert summary.excess["excess"].tolist() == [value for each in records for value in each.excess]
    assert summary.excess["step"].iloc[0] == records[0].step + 1
    assert summary.forks["disagreement_at_end"].tolist() == [100 * each.end.disagreement for each in records]


def test_without_the_packages_the_model_is_written_and_a_line_says_how_to_get_the_page(
    tickets, model_folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "altair", None)  # as where it is not installed
    for name in [name for name in sys.modules if name.startswith("deni.report.") and name != "deni.report.training"]:
        monkeypatch.delitem(sys.modules, name)
    flags = ("--model", model_folder, "--epochs", 1, "--strategy", "default", "--no-progress")
    flat = " ".join(run("train", tickets, *flags, "--output", tmp_path / "model").split())
    assert 'report a page needs the package altair: pip install "deni[report]"' in flat
    assert "expected macro F1" in flat
    assert not (tmp_path / "model" / PAGE).exists()
    assert deni.load(tmp_path / "model")(["invoice money"])[0]["label"]


def test_a_report_that_fails_takes_no_model_with_it(tickets, model_folder, tmp_path):
    def broken(_):
        raise RuntimeError("no ink")

    with pytest.warns(InputWarning, match=r"the report failed and is left out \(RuntimeError: no ink\)"):
        done = train(tickets, model_folder, tmp_path / "model", broken, strategy="default")
    assert deni.load(done.output)(["invoice money"])[0]["label"]


def test_the_page_comes_and_goes_with_its_artifact(tickets, model_folder, tmp_path, monkeypatch):
    output = tmp_path / "model"
    train(tickets, model_folder, output, TrainingReport("first"), strategy="default")
    train(tickets, model_folder, output, TrainingReport("second"), strategy="default", overwrite=True)
    assert "<h1>second</h1>" in (output / PAGE).read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(InputError, match="No space left"):
            train(tickets, model_folder, output, TrainingReport("third"), strategy="default", overwrite=True)
    assert "<h1>second</h1>" in (output / PAGE).read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    train(tickets, model_folder, output, strategy="default", overwrite=True)
    assert not (output / PAGE).exists()


def test_a_training_has_baselines_beside_it_unless_they_are_left_out(tickets, model_folder, tmp_path):
    flags = ("--model", model_folder, "--epochs", 1, "--strategy", "default", "--no-progress")
    told = " ".join(run("train", tickets, *flags, "--output", tmp_path / "model").split())
    assert re.search(r"On the same test texts: majority [\d.]+ \([\d.]+ s\), tfidf .+, frozen .+, this model", told)
    assert re.search(r"best baseline|The baseline \w+ is", told)
    assert "On the same test texts: majority" in (tmp_path / "model" / PAGE).read_text()
    told = run("train", tickets, *flags, "--output", tmp_path / "other", "--no-baselines")
    assert "tfidf" not in told


def test_a_language_model_is_asked_only_where_it_is_named(tickets, model_folder, tmp_path, server):
    flags = ("--model", model_folder, "--epochs", 1, "--strategy", "default", "--no-progress")
    own = ("--llm-model", "m", "--base-url", server.url, "--cache", tmp_path / "cache", "--yes", "--price-input", 2)
    server.always = lambda _: '{"label": "login"}'
    run("train", tickets, *flags, "--output", tmp_path / "first")
    assert server.asked == []
    told = run("train", tickets, *flags, *own, "--baselines", "majority,llm", "--output", tmp_path / "second")
    assert re.search(
        r"majority [\d.]+ \([\d.]+ s\), llm [\d.]+ \([\d.]+ s, 0.02 per 1,000 texts\), this", " ".join(told.split())
    )
    assert len(server.asked) == json.loads((tmp_path / "second" / "deni.json").read_text())["metrics"]["test_texts"]
    assert "tfidf" not in told
    # With another model nothing is known, and the server says no: the training is kept, and its report.
    server.always = refusing(400)
    own = (*own, "--llm-model", "n", "--baselines", "tfidf,llm")
    told = run("train", tickets, *flags, *own, "--output", tmp_path / "third")
    flat = " ".join(told.split())
    assert re.search(r"On the same test texts: tfidf [^,]+, this model", flat)
    assert "The baseline llm was left out:" in flat
    assert (tmp_path / "third" / PAGE).exists()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--baselines", "llm"], "--llm-model"),
        (["--baselines", "llm", "--llm-model", "m", "--base-url", "http://localhost:9/v1"], "give --yes"),
        (["--baselines", "tfidf,frosen"], "did you mean frozen?"),
        (["--baselines", "frequent_tag"], "frequent_tag is for tags of words, not for single_label"),
        (["--examples", "3"], "--examples is a setting of the baseline llm: name it"),
        (["--baselines", "tfidf", "--no-baselines"], "not both"),
    ],
)
def test_what_a_baseline_lacks_is_said_before_the_training(tickets, model_folder, tmp_path, flags, why):
    output = tmp_path / "model"
    said = CliRunner().invoke(main, ["train", tickets, "--model", model_folder, "--output", str(output), *flags])
    assert said.exit_code == 2
    assert why in " ".join(said.output.split())
    assert not output.exists()
