"""Several labels a text, and numbers, from the command line: metrics, predictions, what cannot be read."""

import json
import random

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import deni
from deni.cli import main
from deni.data import names, read_texts, strata, stratified_split
from deni.tasks import TASKS
from tests.helpers.tiny import toy_rows


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def frame(task):
    draw = random.Random(3)
    rows = [text for text, _ in toy_rows(20)]
    if task == "regression":
        return pd.DataFrame({"text": rows, "label": [text.count("e") / 4 + draw.random() / 9 for text in rows]})
    kinds = {"billing": "invoice", "delivery": "parcel", "login": "password"}
    labels = ["; ".join(name for name, word in kinds.items() if word in text) for text in rows]
    labels = [own or draw.choice(["", "login;billing"]) for own in labels]
    return pd.DataFrame({"text": rows, "label": labels})


@pytest.fixture(scope="module", params=["regression", "multi_label"])
def trained(request, model_folder, tmp_path_factory):
    """The task, its file, what `deni train` printed, and the model."""
    folder = tmp_path_factory.mktemp(request.param)
    frame(request.param).to_csv(folder / "texts.csv", index=False)
    flags = ("--task", request.param, "--model", model_folder, "--strategy", "deni", "--members", 3, "--epochs", 3)
    result = run("train", folder / "texts.csv", *flags, "--no-progress", "--output", folder / "model")
    assert result.exit_code == 0, result.output
    return request.param, folder / "texts.csv", result.output, folder / "model"


def measured(task, gold, votes):
    """The metrics in a few lines of NumPy."""
    if task == "regression":
        error, a, b = votes - gold, votes - votes.mean(), gold - gold.mean()
        return {
            "pearson": (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()),
            "rmse": np.sqrt((error**2).mean()),
        }
    both, either = (gold & votes).sum(0), gold.sum(0) + votes.sum(0)
    each = [2 * b / e if e else 0.0 for b, e in zip(both, either, strict=True)]
    return {"micro_f1": 2 * both.sum() / either.sum(), "macro_f1": np.mean(each)}


def test_metrics_are_printed_stored_and_those_of_numpy(trained):
    task, file, printed, model = trained
    info = json.loads((model / "deni.json").read_text())
    assert info["task"] == task
    result = json.loads(run("evaluate", model, file, "--json").stdout)
    classifier, given = deni.load(model), pd.read_csv(file, keep_default_na=False)
    members = classifier.members(list(given["text"]))
    assert members.shape[1] == 3
    if task == "regression":
        expected = measured(task, given["label"].to_numpy(), members.mean(1)[:, 0])
    else:
        share = (1 / (1 + np.exp(-members.astype(float)))).mean(1)
        gold = np.array(
            [[name in own.split(";") or f" {name}" in own for name in classifier.labels] for own in given["label"]]
        )
        expected = measured(task, gold, share > 0.5)
        assert set(result["f1"]) == {"billing", "delivery", "login"} == set(info["labels"])
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, abs=1e-5)
        assert name.replace("_", " ") in printed
        assert f"{info['metrics'][name]:.4f}" in printed
        assert f"{value:.3f}"[:-1] in run("evaluate", model, file).output


def test_the_best_epoch_is_chosen_on_development_texts(trained, model_folder, tmp_path, caplog):
    task, file, _, _ = trained
    flags = ("--task", task, "--model", model_folder, "--strategy", "default", "--epochs", 3, "--dev", 0.2)
    with caplog.at_level("INFO", "deni.training.trainer"):
        result = run("train", file, *flags, "--no-progress", "--labeled", 30, "--output", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert "Loading the population of" in caplog.text
    assert json.loads((tmp_path / "model" / "deni.json").read_text())["metrics"]["train_texts"] == 30


def test_predictions_are_the_members_vote(trained, tmp_path):
    task, file, _, model = trained
    result = run("predict", model, file, "--output", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    written = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    classifier = deni.load(model)
    members = classifier.members(list(written["text"])).astype(float)
    if task == "regression":
        assert list(written.columns) == ["text", "label", "value", "standard_deviation"]
        np.testing.assert_allclose(written["value"], members.mean(1)[:, 0], atol=1e-5)
        np.testing.assert_allclose(written["standard_deviation"], members.std(1)[:, 0], atol=1e-5)
        return
    share = (1 / (1 + np.exp(-members))).mean(1)
    columns = [f"probability_{name}" for name in classifier.labels]
    assert list(written.columns) == ["text", "label", "labels", *columns]
    np.testing.assert_allclose(written[columns], share, atol=1e-5)
    chosen = [";".join(n for n, p in zip(classifier.labels, row, strict=True) if p > 0.5) for row in share]
    assert list(written["labels"]) == chosen


def test_metrics_of_equal_numbers_and_of_no_label():
    assert TASKS["regression"].scores([1.0, 3.0], np.array([[2.0], [2.0]])) == {"pearson": 0.0, "rmse": 1.0}
    assert TASKS["multi_label"].scores([[0.0, 0.0]], np.array([[-1.0, -1.0]])) == {"micro_f1": 0.0, "macro_f1": 0.0}


def test_labels_are_split_at_semicolons_and_may_be_none(tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text("text,label\na,x; y ;x\nb,\nc,z\n")
    texts = read_texts(file, task="multi_label")
    assert texts.labels == [("x", "y"), (), ("z",)]
    assert names(texts) == ["x", "y", "z"]


def test_a_split_keeps_rare_labels_in_the_training_part():
    labels = [("a", "rare"), *[("a",)] * 10, *[("a", "b")] * 2, *[()] * 5]
    for seed in range(10):
        rest, part = stratified_split(strata(labels, "multi_label"), 0.3, np.random.default_rng(seed))
        assert {label for at in rest for label in labels[at]} == {"a", "b", "rare"}
        assert len(part) == 5
    rest, part = stratified_split(strata([0.1, 0.2, 0.3, 0.4], "regression"), 0.25, np.random.default_rng(0))
    assert (len(rest), len(part)) == (3, 1)


# ---- what does not fit ---------------------------------------------------------------------------------------------

BAD = {
    "a word": (
        "regression",
        "text,label\nhello,1.5\nyou,much\n",
        ["line 3", "'label'", "'much' is not a finite number"],
    ),
    "an empty number": ("regression", "text,label\nhello,1.5\nyou,\n", ["line 3", "'label'", "not a finite number"]),
    "infinity": ("regression", "text,label\nhello,inf\n", ["line 2", "'inf' is not a finite number", "drop the row"]),
    "equal numbers": ("regression", "text,label\n" + "hello,2\n" * 9, ["the number 2.0", "nothing to learn"]),
    "no label at all": ("multi_label", "text,label\n" + "hello,\n" * 9, ["no text has a label", "--label-column"]),
}


@pytest.mark.parametrize("what", BAD)
def test_labels_that_do_not_fit_the_task_are_named(model_folder, tmp_path, what):
    task, content, parts = BAD[what]
    file = tmp_path / "bad.csv"
    file.write_text(content)
    result = run("train", file, "--task", task, "--model", model_folder, "--output", tmp_path / "model")
    assert result.exit_code == 2, result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: {file}")
    for part in parts:
        assert part in error
    assert not (tmp_path / "model").exists()


def test_an_unknown_label_and_class_weights_are_refused(trained, model_folder, tmp_path):
    task, file, _, model = trained
    flags = ("--task", task, "--class-weights", "--model", model_folder, "--output", tmp_path / "model")
    result = run("train", file, *flags)
    assert result.exit_code == 2
    assert f"class_weights needs the task single_label, not {task}" in result.stderr
    other = tmp_path / "other.csv"
    other.write_text("text,label\nhello,login;greeting\n")
    result = run("evaluate", model, other)
    assert result.exit_code == 2
    expected = (
        "text 1 has label 'greeting', which training never saw" if task == "multi_label" else "not a finite number"
    )
    assert expected in result.stderr
