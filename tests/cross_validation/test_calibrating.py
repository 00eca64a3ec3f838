"""What is fitted after a training: of out-of-fold predictions, or of a dev split; and what `deni train` says of it."""

import dataclasses
import re
import warnings

import numpy as np
import pytest
from scipy.special import log_softmax

from deni.artifact import OutOfFold, digests_of, export, load, read_info
from deni.commands.train import train_file
from deni.cross_validation.calibrating import calibrate
from deni.data import read_texts
from deni.finetune import fine_tune
from deni.measures import calibration_scores, choose_threshold
from deni.measures.calibration import fit_temperature
from deni.models.tokenizing import encode
from deni.recipe import Recipe
from deni.report.training import PAGE, TrainingReport
from tests.helpers.tiny import toy_rows, write_csv

LABELS = ["billing", "delivery", "login"]


def drawn(texts=300, seeds=2) -> OutOfFold:
    """Predictions that are too sure by a factor of 2, those of the merged model by a factor of 3."""
    generator = np.random.default_rng(0)
    true = generator.normal(size=(texts, 3)) * 3
    gold = (np.exp(log_softmax(true, -1)).cumsum(1) < generator.random((texts, 1))).sum(1).tolist()
    outputs = {"vote": np.tile(log_softmax(2 * true, -1), (seeds, 1, 1)), "merged": log_softmax(3 * true, -1)}
    outputs["merged"] = np.tile(outputs["merged"], (seeds, 1, 1))
    folds = generator.integers(5, size=(seeds, texts))
    return OutOfFold(outputs, folds, gold, digests_of(map(str, range(texts))), LABELS)


def test_vote_and_merged_model_are_fitted_on_their_own_out_of_fold_predictions(fitted):
    found = drawn()
    added = calibrate(dataclasses.replace(fitted(), out_of_fold=found))
    assert set(added) == {"calibration", "abstention"}
    assert added["calibration"]["fitted_on"] == "out_of_fold"
    for name in ("vote", "merged"):
        want = fit_temperature(found.outputs[name][0], found.gold, 1)
        assert added["calibration"][name]["temperature"] == pytest.approx(want, rel=1e-3)
    votes = log_softmax(found.outputs["vote"][0] / added["calibration"]["vote"]["temperature"], -1)
    selection = choose_threshold(np.exp(votes).max(1), votes.argmax(1) == found.gold, 0.9)
    assert added["abstention"]["targets"]["0.9"] == pytest.approx(selection._asdict())


def test_a_hard_vote_has_no_temperature_but_the_merged_model_has(fitted):
    result = fitted(strategy="deni", members=3, epochs=5, combine="hard")
    added = calibrate(dataclasses.replace(result, out_of_fold=drawn()))
    assert "vote" not in added["calibration"]
    assert added["calibration"]["merged"]["temperature"] > 1
    assert added["abstention"]["targets"]["0.9"]


@pytest.mark.parametrize("strategy", ["default", "ensemble"])
def test_a_dev_split_serves_without_cross_validation(model_folder, tickets, tmp_path, strategy):
    settings = {} if strategy == "default" else {"members": 2}
    recipe = Recipe.of(None, strategy, "full", settings, model=model_folder, epochs=2)
    train, dev = read_texts(tickets), read_texts(write_csv(tmp_path / "dev.csv", toy_rows(10, seed=5)))
    result = fine_tune(train, recipe, dev=dev, progress=False)
    added = calibrate(result, dev)
    assert set(added) == {"calibration"}  # the best epoch was chosen on these texts: no promise by them
    assert (added["calibration"]["fitted_on"], added["calibration"]["texts"]) == ("dev", 30)
    gold, votes = encode(dev, result.labels), result.classifier().votes(dev.texts)
    vote = added["calibration"]["vote"]
    assert vote["temperature"] == pytest.approx(fit_temperature(votes, gold, 1), rel=1e-3)
    assert vote["before"]["nll"] == pytest.approx(float(calibration_scores(votes, gold).nll), rel=1e-5)
    folder = result.save(tmp_path / "model")
    if strategy == "ensemble":
        (single,) = export(folder, tmp_path / "single")
        one = {
            "merged": load(single, "cpu").votes(dev.texts),
            "member": result.classifier().members(dev.texts)[:, 0],
        }
        for name, votes in one.items():
            want = fit_temperature(votes, gold, 1)
            assert added["calibration"][name]["temperature"] == pytest.approx(want, rel=1e-3)
    else:
        assert not {"merged", "member"} & set(added["calibration"])


def test_a_cross_validated_model_is_calibrated_and_so_is_what_is_exported(model_folder, tickets, tmp_path):
    recipe = Recipe.of(None, "ensemble", "full", {"members": 2}, model=model_folder, epochs=1)
    train_file(tickets, recipe=recipe, output=tmp_path / "m", cv=3, progress=False)
    classifier, raw = (load(tmp_path / "m", "cpu", calibrated=each) for each in (True, False))
    found, calibration = classifier.out_of_fold, classifier.info["calibration"]
    for name, outputs in found.outputs.items():
        assert calibration[name]["temperature"] == pytest.approx(fit_temperature(outputs[0], found.gold, 1), rel=1e-3)
    assert set(found.outputs) == {"vote", "merged", "member"}
    texts = read_texts(tickets).texts[:5]
    want = log_softmax(raw.votes(texts) / calibration["vote"]["temperature"], -1)
    assert classifier.votes(texts) == pytest.approx(want, abs=1e-6)
    for at, folder in enumerate(export(tmp_path / "m", tmp_path / "members", "members")):
        member = log_softmax(raw.members(texts)[:, at] / calibration["member"]["temperature"], -1)
        assert load(folder, "cpu").votes(texts) == pytest.approx(member, abs=1e-5)
    assert "0.95 takes 59 answers" in classifier.info["abstention"]["targets"]["0.95"]["refused"]  # there are 36


def test_nothing_is_fitted_where_there_is_nothing_to_fit_on(fitted):
    assert calibrate(fitted()) == {}


@pytest.mark.parametrize("task", ["multi_label", "token", "regression", "ordinal"])
def test_each_task_is_calibrated_as_it_predicts(model_folder, tmp_path, task):
    import json

    rows = [{"text": text, "label": label} for text, label in toy_rows(8)]
    number = {label: at for at, label in enumerate(LABELS)}
    for row in rows:
        if task == "multi_label":
            row["label"] = [row["label"], *(["x"] if "a" in row["text"] else [])]
        elif task == "token":
            row["text"] = row["text"].split()
            row["label"] = [f"B-{row['label']}", *["O"] * (len(row["text"]) - 1)]
        else:
            row["label"] = number[row["label"]]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    recipe = Recipe.of(None, "default", "full", {}, model=model_folder, epochs=1, task=task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = train_file(file, recipe=recipe, output=tmp_path / "m", test="0", dev="0.5", progress=False)
    found = read_info(tmp_path / "m").get("calibration")
    if task == "regression":
        assert found is None
        return
    assert found["vote"]["temperature"] > 0
    assert load(tmp_path / "m", "cpu").temperature == found["vote"]["temperature"]
    assert found["texts"] == (12 if task != "token" else 72)
    assert done.result.classifier().temperature == found["vote"]["temperature"]


def test_a_training_tells_it_in_its_card_its_page_and_on_the_terminal(model_folder, tmp_path, monkeypatch, capsys):
    from rich.table import Table

    from deni.terminal import console

    monkeypatch.setattr("deni.commands.train.fine_tune", _with_predictions(fine_tune))
    report = TrainingReport("model", "deni train")
    recipe = Recipe.of(None, "default", "full", {}, model=model_folder, epochs=1)
    file = write_csv(tmp_path / "rows.csv", toy_rows(30))
    train_file(file, recipe=recipe, output=tmp_path / "m", extra_files=report, progress=False)
    info = read_info(tmp_path / "m")
    temperature = f"{info['calibration']['vote']['temperature']:.2f}"
    card = (tmp_path / "m" / "README.md").read_text()
    assert f"divided by a temperature of {temperature}, which changes calibration error" in card
    share = f"{100 * info['abstention']['targets']['0.9']['coverage']:.0f} % of texts"
    assert f"Accuracy 0.9: supported for the surest {share}" in card
    page = (tmp_path / "m" / PAGE).read_text()
    for part in ('id="cards-temperature"', 'id="cards-coverage"', 'id="table-coverage"', 'href="#abstention"'):
        assert part in page
    report.print_on(Table(show_header=False), console())
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert f"temperature │ {temperature}" in told or f"temperature {temperature}" in told
    assert share in told


def _with_predictions(train):
    """A training that has out-of-fold predictions for its texts: few are wrong, and all are too sure."""

    def trained(texts, *args, **settings):
        result = train(texts, *args, **settings)
        gold, generator = encode(texts, result.labels), np.random.default_rng(0)
        logits = generator.normal(size=(len(gold), 3)) + 4 * np.eye(3)[gold]
        outputs = {"vote": log_softmax(3 * logits, -1)[None]}
        folds = generator.integers(5, size=(1, len(gold)))
        result.out_of_fold = OutOfFold(outputs, folds, gold, digests_of(texts.texts), result.labels)
        return result

    return trained
