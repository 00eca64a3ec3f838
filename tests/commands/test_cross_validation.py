"""`deni train --cv`: an estimate in all that is written, no test split, and a model that is not lost."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from deni.artifact import load, read_out_of_fold
from deni.cli import main
from deni.cross_validation import training
from deni.data import read_texts
from tests.helpers.tiny import toy_rows, write_csv


@pytest.fixture
def train(model_folder, tickets, tmp_path):
    def call(*flags, file=tickets):
        settings = ["--model", model_folder, "--strategy", "default", "--epochs", "1"]
        settings += [] if "--baselines" in flags else ["--no-baselines"]
        command = ["train", file, "--output", str(tmp_path / "model"), *settings, "--no-progress", *flags]
        return CliRunner().invoke(main, command)

    return call


def test_the_estimate_is_in_all_that_is_printed_and_written(train, tmp_path, tickets):
    done = train("--cv", "3")
    assert done.exit_code == 0, done.output
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    found = info["cross_validation"]
    assert info["metrics"] == {"train_texts": 36}  # all of them: no test split
    assert (info["data"]["test"], info["data"]["cv"], info["data"]["cv_seeds"]) == (None, 3, 1)
    shown = [f"{100 * found[name]:.1f}" for name in ("score", "low", "high")]
    interval = f"{shown[0]} (95 % interval {shown[1]} to {shown[2]})"
    both = ("estimated by training on 67 % of the labels", "assumes that new texts come in the labels' mix of classes")
    card, page = ((tmp_path / "model" / name).read_text() for name in ("README.md", "report.html"))
    printed = " ".join(done.output.split())
    for text in (printed, card, page.replace("&#39;", "'")):
        assert all(sentence in text for sentence in both)
    assert printed.index(f"Expect macro F1 {interval}") < printed.index("It took")
    assert interval in page
    assert re.search(r"36 train, 0 test, all left out once in\s+3 folds", done.output)
    assert "Cross-validation" in page
    out_of_fold = read_out_of_fold(tmp_path / "model")
    assert out_of_fold.outputs["vote"].shape == (1, 36, 3)
    assert load(tmp_path / "model").info["files"]["out_of_fold.safetensors"] > 0


def test_baselines_stand_beside_the_estimate(train, tmp_path):
    done = train("--cv", "3", "--baselines", "majority,tfidf")
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert re.search(r"Of texts that each fold left out: majority 16\.7 .+, tfidf .+, this model", told)
    assert "Of texts that each fold left out: majority" in (tmp_path / "model" / "report.html").read_text()


def test_a_test_split_that_is_asked_for_is_held_back(train, tmp_path):
    done = train("--cv", "3", "--cv-seeds", "2", "--test", "0.25")
    assert done.exit_code == 0, done.output
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert (info["metrics"]["train_texts"], info["metrics"]["test_texts"]) == (27, 9)
    assert read_out_of_fold(tmp_path / "model").outputs["vote"].shape == (2, 27, 3)
    assert "On the test split it has macro F1" in " ".join(done.output.split())


def test_without_it_a_fifth_is_held_back_as_ever(train, tmp_path):
    assert train().exit_code == 0
    info = json.loads((tmp_path / "model" / "deni.json").read_text())
    assert info["data"]["test"] == "0.2"
    assert "cv" not in info["data"]
    assert "cross_validation" not in info
    assert read_out_of_fold(tmp_path / "model") is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cv", "1"], "--cv must be at least 2, not 1"),
        (["--cv-seeds", "2"], "--cv-seeds divides the texts of --cv anew"),
        (["--keep-folds"], "--keep-folds keeps the models of --cv"),
        (["--cv", "3", "--dev", "0.1"], "--dev chooses the best epoch"),
        (["--cv", "15"], "no class has 15 texts, one for each fold"),
        (["--cv", "3", "--test-size", "4"], "no test split unless test is given"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(train, tmp_path, flags, said):
    done = train(*flags)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("error", "code"), [(ZeroDivisionError(), 1), (KeyboardInterrupt(), 130)])
def test_a_cross_validation_that_fails_does_not_cost_the_model(train, tmp_path, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr(training.Packs, "train", fail)
    done = train("--cv", "3")
    assert done.exit_code == code
    assert "has the model: what failed came after the training" in " ".join(done.output.split())
    assert len(load(tmp_path / "model").predict(["invoice money"])) == 1


def test_the_divisions_follow_the_block(train, tmp_path, tickets):
    found = []
    for flags in (("--block", "0"), ("--block", "1"), ("--seed-data-split", "1")):
        assert train("--cv", "3", "--overwrite", *flags).exit_code == 0
        found.append(read_out_of_fold(tmp_path / "model").folds)
    assert (found[0] != found[1]).any()
    np.testing.assert_array_equal(found[1], found[2])


def test_a_class_of_one_text_warns_and_is_left_out_once(train, tmp_path):
    file = write_csv(tmp_path / "rare.csv", [*toy_rows(4), ("a rare one", "rare")])
    done = train("--cv", "3", file=str(file))
    assert done.exit_code == 0, done.output
    assert "only one text has the label 'rare'" in " ".join(done.output.split())
    assert read_out_of_fold(tmp_path / "model").outputs["vote"].shape == (1, len(read_texts(file)), 4)
