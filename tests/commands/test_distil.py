"""`deni distil` as a user runs it."""

import json

import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.metrics import f1_score

import deni
from deni.cli import main
from deni.data import Texts
from deni.finetune import fine_tune
from deni.recipe import Recipe
from tests.helpers.tiny import toy_rows, write_csv


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_folder):
    """A folder with a teacher, labeled texts, a pool and test texts, some of which are in the pool."""
    folder = tmp_path_factory.mktemp("distil")
    labeled, test = toy_rows(8), toy_rows(3, seed=7)
    write_csv(folder / "labeled.csv", labeled)
    write_csv(folder / "test.csv", test)
    write_csv(folder / "other.csv", [("a text", "other")])
    pool = [text for text, _ in [*toy_rows(8, seed=5), *labeled[:2]]]
    pool = [*pool, *(text.upper() for text, _ in test[:4]), pool[0], ""]
    pd.DataFrame({"text": pool, "label": "not looked at"}).to_csv(folder / "pool.csv", index=False)
    recipe = Recipe.of(
        None, "best_practices+ensemble", "full", {"members": 2, "epochs": 2}, model=model_folder, max_length=20
    )
    texts = Texts([text for text, _ in labeled], [label for _, label in labeled], "labeled.csv", None)
    fine_tune(texts, recipe, progress=False, device="cpu", cv=2).save(folder / "teacher")
    return folder


def run(place, *words):
    result = CliRunner().invoke(
        main, ["distil", f"{place}/teacher", "--texts", f"{place}/pool.csv", "--no-progress", *map(str, words)]
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_student_is_trained_measured_and_written(place, tmp_path):
    files = ["--labeled", place / "labeled.csv", "--test", place / "test.csv"]
    result = run(place, *files, "--output", tmp_path / "student", "--device", "cpu", "--held-out", "2")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    left_out = "left out: 1 empty, 4 in the test split, 2 labeled already, 1 repeated; 2 held out"
    assert f"Pool: 22 of 32 texts used; {left_out}. 12 steps." in said
    assert "24, 24 with 50.0% label and the rest out-of-fold prediction" in said
    assert "macro F1 on 9 test texts" in said

    info = json.loads((tmp_path / "student" / "deni.json").read_text())
    found = info["distillation"]
    assert found["pool"]["left_out"] == {"empty": 1, "test": 4, "labeled": 2, "repeated": 1}
    assert info["strategy"]["name"] == "best_practices"
    assert (info["runs"], info["members"]) == (1, 1)
    test = pd.read_csv(place / "test.csv")
    for name, folder in (("teacher", place / "teacher"), ("student", tmp_path / "student")):
        predicted = deni.load(folder, "cpu").predict(test["text"].tolist())
        expected = f1_score(test["label"], predicted, average="macro", labels=sorted(set(test["label"])))
        assert found["test"][name]["score"] == pytest.approx(expected)
        assert found["test"][name]["low"] <= expected <= found["test"][name]["high"]
    assert info["metrics"]["macro_f1"] == pytest.approx(found["test"]["student"]["score"])
    assert found["teacher"]["member_steps"] == 2 * found["steps"] / 2
    page = (tmp_path / "student" / "report.html").read_text()
    assert "22 of 32 texts used" in page
    assert "deni distil" in page


def test_json_has_what_deni_json_has(place, tmp_path):
    result = run(place, "--output", tmp_path / "s", "--json", "--start", "merged", "--pool-size", 6, "--epochs", 1)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["pool"]["used"] == 6
    assert found["steps"] == 1
    assert found["settings"]["start"] == "merged"
    assert found["labeled"] == {"texts": 0, "out_of_fold": 0}
    assert "test" not in found


def test_augmented_texts_join_the_pool(place, tmp_path):
    augmented = tmp_path / "augmented.csv"
    test = pd.read_csv(place / "test.csv")["text"].tolist()
    rows = [("a", "new courier"), ("a", "an invoice"), ("b", test[0]), (test[1], "some other words")]
    pd.DataFrame(rows, columns=["seed", "text"]).to_csv(augmented, index=False)
    result = run(
        place,
        "--output",
        tmp_path / "s",
        "--json",
        "--augmented",
        augmented,
        "--test",
        place / "test.csv",
        "--epochs",
        1,
    )
    found = json.loads(result.stdout)["pool"]
    assert (found["read"], found["augmented"], found["left_out"]["test"]) == (36, 4, 6)


def test_a_pool_of_another_source_is_warned_of(place, tmp_path):
    labeled = write_csv(tmp_path / "labeled.csv", toy_rows(20))
    pd.DataFrame({"text": [f"{row} - {row + 7}" for row in range(40)]}).to_csv(tmp_path / "numbers.csv", index=False)
    given = ["--labeled", labeled, "--epochs", 1, "--device", "cpu"]
    result = run(place, "--texts", tmp_path / "numbers.csv", *given, "--output", tmp_path / "other")
    assert result.exit_code == 0, result.output
    told = "numbers.csv: 100.0% of its texts are farther from the labeled texts than half of these are"
    assert told in " ".join(result.output.split())
    result = run(place, *given, "--output", tmp_path / "same")
    assert result.exit_code == 0, result.output
    assert "farther" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels-share", 2], "labels_share must be in [0, 1], not 2"),
        (["--vote-temperature", 0], "vote_temperature must be above 0"),
        (["--strategy", "best_practice"], "did you mean best_practices?"),
        (["--strategy", "augmentation"], "augmentation"),
        (["--model", "auto:a,b"], "a student is one model"),
        (["--start", "merged", "--tuning", "lora"], "start merged needs the tuning of the teacher"),
        (["--test", "{place}/other.csv"], "has label 'other', which training never saw"),
        (["--resume"], "has no checkpoint to resume from"),
    ],
)
def test_what_cannot_be_is_one_line_and_code_2(place, tmp_path, words, message):
    result = run(place, "--output", tmp_path / "s", *(str(word).format(place=place) for word in words))
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "s").exists()


# ---- deni train --unlabeled ------------------------------------------------------------------------------------------


def train(place, model_folder, *words):
    given = [f"{place}/labeled.csv", "--unlabelled", f"{place}/pool.csv", "--model", model_folder, "--epochs", 1]
    shape = ["--strategy", "default", "--max-length", 20, "--device", "cpu", "--no-progress", "--no-baselines"]
    result = CliRunner().invoke(main, ["train", *map(str, [*given, *shape, *words])])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_labeled_and_unlabeled_texts_become_one_model(place, model_folder, tmp_path):
    words = ["--test", place / "test.csv", "--teachers", 2, "--labels-share", 0.25, "--output", tmp_path / "student"]
    result = train(place, model_folder, *words)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "left out: 1 empty, 4 in the test split, 2 labeled already, 1 repeated" in said
    assert "24, 24 with 25.0% label and the rest out-of-fold prediction" in said
    info = json.loads((tmp_path / "student" / "deni.json").read_text())
    found = info["distillation"]
    assert (info["runs"], info["members"], found["teacher"]["members"]) == (1, 1, 2)
    assert (found["teacher"]["member_steps"], found["member_steps"]) == (2 * 3, 6)  # T is 3
    assert info["data"]["unlabelled"] == f"{place}/pool.csv"
    assert found["test"]["student"]["score"] == pytest.approx(info["metrics"]["macro_f1"])
    assert set(found["test"]["teacher"]) == {"score", "low", "high", "metrics"}
    page = (tmp_path / "student" / "report.html").read_text()
    assert "4 in the test split" in page
    assert 'id="table-models"' in page
    folds = found["teacher"]["folds"]["member_steps"]
    parts = f"6 for the student, {6 + folds} for the teacher and its folds"
    assert f"It took {12 + folds} member-steps, {(12 + folds) / 6:.1f} times plain training: {parts}; one model" in page
    assert f"{12 + folds} member-steps" in page


def test_augmented_texts_join_those_without_labels(place, model_folder, tmp_path):
    """With a strategy that takes them the teacher is trained on them, and they do not join."""
    labeled, test = (pd.read_csv(place / f"{name}.csv")["text"].tolist() for name in ("labeled", "test"))
    made = [(text, f"well, {text} then") for text in [*labeled, test[0]]]
    pd.DataFrame(made, columns=["seed", "text"]).to_csv(tmp_path / "augmented.csv", index=False)
    words = ["--test", place / "test.csv", "--teachers", 2, "--augmented", tmp_path / "augmented.csv"]
    result = train(place, model_folder, *words, "--output", tmp_path / "joined")
    assert result.exit_code == 0, result.output
    info = json.loads((tmp_path / "joined" / "deni.json").read_text())
    assert info["data"]["augmented"] == f"{tmp_path}/augmented.csv"
    assert info["distillation"]["pool"]["augmented"] == len(made)
    assert info["distillation"]["pool"]["left_out"]["test"] == 5
    own = ["--strategy", "augmentation", "--output", tmp_path / "trained"]
    assert train(place, model_folder, *words, *own).exit_code == 0
    info = json.loads((tmp_path / "trained" / "deni.json").read_text())
    assert info["distillation"]["pool"]["augmented"] == 0
    assert info["distillation"]["teacher"]["strategy"] == "augmentation+ensemble"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--augmented", "{place}/labeled.csv"], "labeled.csv: no column 'seed'"),
        (["--cv", 2], "Error: --cv is for one training, and --unlabelled has several (teacher, folds, student)"),
        (["--resume-from", "{place}/teacher"], "Error: --resume-from is for one training"),
        (["--resume"], "s.checkpoints has no checkpoint to resume from: omit --resume"),
        (["--vote-temperature", -1], "vote_temperature must be above 0"),
        (["--test", "{place}/pool.csv", "--text-column", "other"], "no column 'other'"),
    ],
)
def test_what_cannot_be_trained_with_a_pool_is_one_line(place, model_folder, tmp_path, words, message):
    words = [str(word).format(place=place) for word in words]
    result = train(place, model_folder, "--output", tmp_path / "s", *words)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "s").exists()


def test_a_refusal_names_the_spelling_that_was_typed(place, tmp_path):
    words = ["train", f"{place}/labeled.csv", f"--unlabeled={place}/pool.csv", "--cv", "2", "--output", f"{tmp_path}/s"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "--cv is for one training, and --unlabeled has several" in result.stderr


def test_settings_of_a_student_need_a_pool(place, tmp_path):
    result = CliRunner().invoke(
        main, ["train", f"{place}/labeled.csv", "--labels-share", "0.1", "--output", str(tmp_path / "s")]
    )
    assert result.exit_code == 2
    assert "--labels-share is for texts without labels: give --unlabeled, too" in result.stderr
