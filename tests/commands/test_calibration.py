"""Labeled texts that a model has not learned, and predictions that abstain by them."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from deni.artifact import OutOfFold, digests_of, load
from deni.cli import main
from deni.commands.calibration import read_calibration
from deni.commands.evaluate import evaluate_file
from deni.commands.predict import predict_file
from deni.data import read_texts
from deni.errors import InputError, InputWarning
from deni.measures import accuracy_bound
from tests.helpers.tiny import toy_rows, write_csv


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """A CSV with 240 texts."""
    rows = [(f"{text} {number}", label) for number, (text, label) in enumerate(toy_rows(80, seed=3))]
    return str(write_csv(tmp_path_factory.mktemp("labeled") / "labeled.csv", rows))


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    """A model that is good enough, with a temperature."""
    result = dataclasses.replace(fitted(epochs=40), added={"calibration": {"vote": {"temperature": 2.5}}})
    return result.save(tmp_path_factory.mktemp("artifact") / "model")


def test_labels_of_a_file_stand_in_for_out_of_fold_predictions(folder, labeled):
    classifier = load(folder, "cpu")
    found = read_calibration(classifier, labeled)
    texts = read_texts(labeled)
    assert found.outputs["vote"][0] == pytest.approx(load(folder, "cpu", calibrated=False).votes(texts.texts))
    assert [classifier.labels[each] for each in found.gold] == list(texts.labels)
    assert found.folds.tolist() == [[0] * 240]
    assert found.digests == digests_of(texts.texts)


def test_texts_that_were_trained_on_are_found(folder, labeled):
    classifier = load(folder, "cpu")
    texts = read_texts(labeled)
    votes = np.zeros((1, 2, 3))
    for known, error, words in [(2, InputWarning, "trained on 2 of these 240"), (240, InputError, "all of these")]:
        digests = digests_of(texts.texts[:known])
        classifier.out_of_fold = OutOfFold({"vote": votes}, votes[..., 0], [0, 0], digests, classifier.labels)
        with pytest.warns(error, match=words) if error is InputWarning else pytest.raises(error, match=words):
            read_calibration(classifier, labeled)


def test_a_file_without_labels_is_named(folder, tmp_path):
    (tmp_path / "bare.csv").write_text("text\none\ntwo\n")
    with pytest.raises(InputError, match=r"bare\.csv"):
        read_calibration(load(folder, "cpu"), tmp_path / "bare.csv")


def test_predictions_abstain_where_the_accuracy_is_not_supported(folder, labeled, tmp_path):
    heard = []
    out = tmp_path / "out.csv"
    settings = {"accuracy": 0.9, "calibration": labeled, "device": "cpu"}
    predict_file(folder, labeled, out, **settings, on_selection=heard.append)
    (selection,) = heard
    table = pd.read_csv(out)
    assert table["abstained"].tolist() == (table["confidence"] <= selection.threshold).tolist()
    given = pd.read_csv(labeled)["label"]
    answered = ~table["abstained"]
    # The same texts, so what was counted is what comes out.
    assert answered.sum() == selection.answered
    assert (table["label"][answered] != given[answered]).sum() == selection.errors
    assert table["label"][~answered].isna().all()
    assert accuracy_bound(selection.answered, selection.errors) >= 0.9


def test_the_command_says_the_expected_coverage_and_writes_json(folder, labeled, tmp_path):
    out = tmp_path / "out.jsonl"
    command = ["predict", str(folder), labeled, "--output", str(out), "--accuracy", "0.9", "--calibration", labeled]
    done = CliRunner().invoke(main, [*command, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    answered = [row for row in rows if not row["abstained"]]
    assert f"{100 * len(answered) / 240:.0f} % of the texts ({len(answered)} of 240 labeled texts" in done.stderr
    assert all(row["label"] is None for row in rows if row["abstained"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--accuracy", "1.5"], "--accuracy must be between 0 and 1"),
        (["--accuracy", "0.95"], "no out-of-fold predictions"),
        (["--accuracy", "0.99", "--calibration", "FILE"], "0.99 takes 299 answers without an error"),
        (["--calibration", "FILE"], "give --accuracy"),
        (["--calibration", "absent.csv", "--accuracy", "0.9"], "absent.csv"),
        (["--label-column", "label"], "omit it"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_anything_is_written(folder, labeled, tmp_path, flags, words):
    out = tmp_path / "out.csv"
    flags = [labeled if flag == "FILE" else flag for flag in flags]
    done = CliRunner().invoke(main, ["predict", str(folder), labeled, "--output", str(out), "--device", "cpu", *flags])
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_predictions_are_calibrated_unless_told_otherwise(folder, labeled, tmp_path):
    for name, settings in (("yes", {}), ("no", {"calibrated": False})):
        predict_file(folder, labeled, tmp_path / f"{name}.csv", device="cpu", **settings)
    yes, no = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("yes", "no"))
    assert yes["label"].tolist() == no["label"].tolist()
    assert (yes["confidence"] < no["confidence"]).all()  # the temperature is 2.5
    found = load(folder, "cpu")(pd.read_csv(labeled)["text"].tolist())
    assert yes["confidence"].tolist() == pytest.approx([each["confidence"] for each in found])


def test_an_evaluation_measures_the_calibrated_probabilities(folder, labeled):
    from sklearn.metrics import log_loss

    measured = {each: evaluate_file(folder, labeled, device="cpu", calibrated=each) for each in (True, False)}
    assert measured[True]["macro_f1"] == measured[False]["macro_f1"]
    gold = pd.read_csv(labeled)["label"]
    for each, found in measured.items():
        votes = load(folder, "cpu", calibrated=each).votes(pd.read_csv(labeled)["text"].tolist())
        want = log_loss(gold, np.exp(votes), labels=["billing", "delivery", "login"])
        assert found["calibration"]["nll"] == pytest.approx(want, abs=1e-5)
    assert measured[True]["calibration"] != measured[False]["calibration"]
