"""Temperatures: fitted as by hand, applied to votes, folded into what is exported; no label changes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax, softmax
from sklearn.metrics import log_loss
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from deni.artifact import Classifier, export, load
from deni.artifact.calibration import fit_calibration, fold_temperature, measure, why_not_calibrated
from deni.errors import ArtifactError
from deni.models.hugging_face import logits_of
from deni.tasks import TASKS
from tests.helpers.tiny import SMALL, make_batch, make_tiny

TEXTS = ["invoice money charged", "parcel late courier the box", "password reset", "why"]
TEMPERATURES = {"vote": 1.7, "merged": 2.3, "member": 0.6}
KINDS = {
    "default, full": {},
    "deni, full": {"strategy": "deni", "members": 3, "epochs": 5},
    "deni, lora": {"strategy": "deni", "tuning": "lora", "members": 3, "epochs": 5},
    "deni, ia3": {"strategy": "deni", "tuning": "ia3", "members": 3, "epochs": 5},
}


@pytest.fixture
def calibrated(fitted, tmp_path):
    """Saves a model with temperatures, as training would write them."""

    def save(settings, temperatures=TEMPERATURES) -> Path:
        folder = fitted(**settings).save(tmp_path / "model")
        info = json.loads((folder / "deni.json").read_text())
        info["calibration"] = {name: {"temperature": value} for name, value in temperatures.items()}
        (folder / "deni.json").write_text(json.dumps(info))
        return folder

    return save


def logits(folder, model=None) -> np.ndarray:
    """By plain transformers."""
    model = model or AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        inputs = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
        return model.eval()(**inputs).logits.numpy()


# ---- predictions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["default, full", "deni, full"])
def test_the_log_mean_probability_is_divided_by_the_temperature(calibrated, kind):
    folder = calibrated(KINDS[kind])
    classifier, plain = load(folder, "cpu"), load(folder, "cpu", calibrated=False)
    members = plain.members(TEXTS)
    assert np.array_equal(classifier.members(TEXTS), members)  # these are not calibrated
    mean = np.log(np.exp(members.astype(float)).mean(1))
    want = log_softmax(mean / 1.7, axis=-1)
    assert classifier.votes(TEXTS) == pytest.approx(want, abs=1e-6)
    assert classifier.predict_log_probabilities(TEXTS) == pytest.approx(want, abs=1e-6)
    assert plain.votes(TEXTS) == pytest.approx(mean, abs=1e-6)
    assert classifier.predict_log_probabilities(TEXTS, combine="parent") == pytest.approx(members[:, 0])
    for found, raw, row in zip(classifier(TEXTS), plain(TEXTS), np.exp(want), strict=True):
        assert (found["label"], found["agreement"]) == (raw["label"], raw["agreement"])
        assert found["confidence"] == pytest.approx(row.max())
        assert found["entropy"] == pytest.approx(-(row * np.log(row)).sum())
        assert found["confidence"] < raw["confidence"]
    classifier.temperature = None
    assert classifier(TEXTS) == plain(TEXTS)


def test_an_artifact_without_a_temperature_predicts_as_before_to_the_bit(fitted):
    result = fitted()
    one = Classifier(result.trainer.population, result.tokenizer, result.labels, result.info())
    assert one.temperature is None
    assert one.votes(TEXTS).dtype == np.float32
    assert np.array_equal(one.votes(TEXTS), one.members(TEXTS)[:, 0])


@pytest.mark.parametrize("temperature", [0.05, 0.3, 3.0, 20.0])
def test_no_choice_changes_not_even_between_neighboring_numbers(temperature):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(5000, 1, generator=generator)
    near = torch.cat([first, torch.nextafter(first, first + 1), torch.nextafter(first, first - 1)], 1)
    for name in ("single_label", "token"):
        votes = near.log_softmax(-1)
        assert torch.equal(TASKS[name].temper(votes, temperature).argmax(-1), votes.argmax(-1))
    odds = torch.cat([near, torch.zeros(5000, 1), torch.full((5000, 1), 1e-40)], 1)
    assert torch.equal(TASKS["multi_label"].temper(odds, temperature) > 0, odds > 0)
    assert torch.equal(TASKS["regression"].temper(near, temperature), near)


def test_several_labels_and_words_are_calibrated_in_what_they_show():
    odds = torch.tensor([[2.0, -1.0], [-3.0, 0.5]])
    (first, second) = TASKS["multi_label"].predictions(["a", "b"], odds[:, None], odds, ["x", "y"], 2.0)
    assert (first["labels"], second["labels"]) == (["x"], ["y"])
    assert first["probabilities"] == pytest.approx({"x": 1 / (1 + np.exp(-1)), "y": 1 / (1 + np.exp(0.5))})
    votes = torch.tensor([[0.0, 2.0], [1.0, 0.0]]).log_softmax(-1)
    (words,) = TASKS["token"].predictions([["Oslo", "is"]], votes[:, None], votes, ["O", "B-LOC"], 4.0)
    assert words["labels"] == ["B-LOC", "O"]
    assert words["confidences"] == pytest.approx([softmax([0, 0.5])[1], softmax([0.25, 0])[0]])


@pytest.mark.parametrize("value", [0, -1.0, "2", None, True, float("inf")])
def test_a_temperature_that_is_none_is_refused(calibrated, value):
    with pytest.raises(ArtifactError, match=r"calibration .*expected"):
        load(calibrated({}, {"vote": value}), "cpu")


# ---- fitting -------------------------------------------------------------------------------------------------------


def test_each_predictor_has_its_own_temperature():
    generator = np.random.default_rng(0)
    true = generator.normal(size=(400, 3)) * 2
    gold = (softmax(true, -1).cumsum(1) < generator.random((400, 1))).sum(1).tolist()
    outputs = {"vote": log_softmax(true * 2, -1)[None], "merged": log_softmax(true * 3, -1)[None]}
    folds = generator.integers(5, size=(1, 400))
    found = fit_calibration(outputs, gold, folds, TASKS["single_label"], "out_of_fold")
    assert (found["method"], found["fitted_on"], found["texts"]) == ("temperature", "out_of_fold", 400)
    for name, values in outputs.items():

        def loss(at, values=values):
            scaled = log_softmax(values[0] / np.exp(at), -1)
            return log_loss(gold, np.exp(scaled)) - scaled.mean() / 400

        best = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
        assert found[name]["temperature"] == pytest.approx(best, rel=1e-3)
        assert found[name]["before"]["nll"] == pytest.approx(log_loss(gold, np.exp(values[0])))
        assert found[name]["after"]["nll"] < found[name]["before"]["nll"]
        for when in ("before", "after"):
            bins = found[name][when]["bins"]
            assert sum(each["count"] for each in bins) == pytest.approx(400)
            assert sum(each["count"] * each["accuracy"] for each in bins) == pytest.approx(
                (values[0].argmax(1) == gold).sum()
            )
    assert found["vote"]["temperature"] == pytest.approx(2, rel=0.2)
    assert found["merged"]["temperature"] == pytest.approx(3, rel=0.2)


def test_of_several_labels_the_log_odds_are_divided():
    generator = np.random.default_rng(1)
    true = generator.normal(size=(500, 4)) * 2
    gold = (generator.random((500, 4)) < 1 / (1 + np.exp(-true))).astype(float)
    folds = generator.integers(4, size=(1, 500))
    found = fit_calibration({"vote": 2.5 * true[None]}, gold.tolist(), folds, TASKS["multi_label"], "dev")["vote"]
    assert found["temperature"] == pytest.approx(2.5, rel=0.15)

    def log_loss_of(odds):
        return -np.mean(gold * log_expit(odds) + (1 - gold) * log_expit(-odds))

    assert found["before"]["nll"] == pytest.approx(log_loss_of(2.5 * true))
    assert found["after"]["nll"] == pytest.approx(log_loss_of(2.5 * true / found["temperature"]), abs=0.01)
    assert measure(2.5 * true, gold.tolist(), TASKS["multi_label"])["nll"] == pytest.approx(log_loss_of(2.5 * true))


def test_what_has_no_probabilities_is_not_calibrated():
    assert "numbers" in why_not_calibrated(TASKS["regression"], "soft")
    assert "hard vote" in why_not_calibrated(TASKS["single_label"], "hard")
    assert why_not_calibrated(TASKS["multi_label"], "parent") == ""


# ---- exports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_softmax_of_the_exported_model_is_the_calibrated_probability(calibrated, tmp_path, kind):
    folder = calibrated(KINDS[kind])
    (out,), (plain,) = export(folder, tmp_path / "out"), export(folder, tmp_path / "plain", calibrated=False)
    one = kind.startswith("default")
    temperature = TEMPERATURES["vote" if one else "merged"]
    assert logits(out) == pytest.approx(logits(plain) / temperature, abs=1e-5)
    if one:
        assert softmax(logits(out), -1) == pytest.approx(np.exp(load(folder, "cpu").votes(TEXTS)), abs=1e-6)
    assert np.exp(load(out, "cpu").votes(TEXTS)) == pytest.approx(softmax(logits(plain) / temperature, -1), abs=1e-6)


def test_each_exported_member_has_the_temperature_of_one_member(calibrated, tmp_path):
    folder = calibrated(KINDS["deni, full"])
    members = load(folder, "cpu").members(TEXTS)
    for at, out in enumerate(export(folder, tmp_path / "out", "members")):
        assert softmax(logits(out), -1) == pytest.approx(softmax(members[:, at] / 0.6, -1), abs=1e-6)


@pytest.mark.parametrize("tuning", ["lora", "ia3", "prompt"])
def test_an_exported_adapter_is_calibrated(calibrated, tmp_path, model_folder, tuning):
    from peft import PeftModel

    folder = calibrated({"strategy": "deni", "tuning": tuning, "members": 3, "epochs": 5})

    def adapted(out):
        base = AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=3)
        return logits(out, PeftModel.from_pretrained(base, out))

    (out,) = export(folder, tmp_path / "out", adapter=True)
    (plain,) = export(folder, tmp_path / "plain", adapter=True, calibrated=False)
    assert adapted(out) == pytest.approx(adapted(plain) / 2.3, abs=1e-5)


def test_a_folder_of_sentence_transformers_is_calibrated(calibrated, tmp_path):
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    folder = calibrated({})
    (out,) = export(folder, tmp_path / "out", "sentence-transformers")
    found = package.SentenceTransformer(str(out), device="cpu").encode(TEXTS, show_progress_bar=False)
    assert softmax(found, -1) == pytest.approx(np.exp(load(folder, "cpu").votes(TEXTS)), abs=1e-5)


@pytest.mark.parametrize("task", ["Sequence", "Token"])
@pytest.mark.parametrize("architecture", SMALL)
def test_the_logits_of_every_architecture_are_divided(architecture, task):
    import transformers

    if not hasattr(transformers, f"{SMALL[architecture][0]}For{task}Classification"):
        pytest.skip(f"transformers has no {architecture} for {task}")
    model = make_tiny(architecture, task=task).eval()
    inputs = {name: value for name, value in make_batch(task=task).items() if name != "labels"}
    with torch.no_grad():
        before = logits_of(model(**inputs))
        fold_temperature(model, 2.5)
        assert torch.allclose(logits_of(model(**inputs)), before / 2.5, atol=1e-12, rtol=0)
        assert before.abs().max() > 1e-4
