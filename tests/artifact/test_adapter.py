"""Exported adapters, read with their base model: as PEFT reads them, and as the artifact predicts."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import deni
from deni.artifact import export
from deni.errors import ArtifactError, InputError
from deni.models.loading import load_model
from tests.helpers.graphs import make_artifact, population_of
from tests.helpers.tiny import SMALL_TUNINGS, toy_rows

TEXTS = [text for text, _ in toy_rows(2)]


@pytest.fixture
def adapter(fitted, tmp_path):
    """The mean of two members."""
    source = fitted("delayed_ensemble", "lora", members=2).save(tmp_path / "model")
    return export(source, tmp_path / "adapter", adapter=True)[0]


def change(folder, **values):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("tuning", ["lora", "ia3", "prompt"])
def test_an_adapter_predicts_as_peft_and_as_its_artifact(tuning, fitted, tmp_path):
    source = fitted("default", tuning).save(tmp_path / "model")
    (adapter,) = export(source, tmp_path / "adapter", adapter=True)
    found, artifact = deni.load(adapter, "cpu"), deni.load(source, "cpu")
    assert found.labels == artifact.labels == ["billing", "delivery", "login"]
    np.testing.assert_allclose(found.votes(TEXTS), artifact.votes(TEXTS), rtol=0, atol=1e-5)
    by_peft = AutoPeftModelForSequenceClassification.from_pretrained(adapter, num_labels=3).eval()
    tokens = AutoTokenizer.from_pretrained(adapter)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = by_peft(**tokens).logits.log_softmax(-1)
    assert found.votes(TEXTS) == pytest.approx(expected.numpy(), abs=1e-5)
    assert found.max_length == 40 - SMALL_TUNINGS.get(tuning, {}).get("prompt_tokens", 0)


def test_an_adapter_is_the_mean_that_is_exported_without_it(adapter, tmp_path):
    (single,) = export(tmp_path / "model", tmp_path / "single")
    expected = deni.load(single, "cpu").votes(TEXTS)
    np.testing.assert_allclose(deni.load(adapter, "cpu").votes(TEXTS), expected, rtol=0, atol=1e-5)


def test_an_adapter_of_words_is_read(model_folder, tmp_path):
    model = load_model(model_folder, ["O", "B-x", "I-x"], task="token")
    about = {"recipe": {"model": model_folder}}
    artifact = make_artifact(tmp_path / "model", model_folder, population_of(model=model, members=1), "token", **about)
    (adapter,) = export(artifact, tmp_path / "adapter", adapter=True)
    words = [text.split() for text in TEXTS]
    found = deni.load(adapter, "cpu")
    assert found.task == "token"
    np.testing.assert_allclose(found.votes(words), deni.load(artifact, "cpu").votes(words), rtol=0, atol=1e-5)


def test_an_adapter_becomes_a_graph(adapter, tmp_path):
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    export(adapter, tmp_path / "graph", "onnx")
    expected = deni.load(adapter, "cpu").votes(TEXTS)
    np.testing.assert_allclose(deni.load(tmp_path / "graph").votes(TEXTS), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("/nowhere/base", "base_model_name_or_path is '/nowhere/base', no folder that is here and no hub id: write"),
        (None, "base_model_name_or_path is missing: name the model that the adapter was trained on"),
        ("org/none", "org/none"),
    ],
)
def test_a_base_model_that_is_not_there_is_one_line(adapter, named, message):
    change(adapter, base_model_name_or_path=named)
    with pytest.raises(ArtifactError, match=message) as refusal:
        deni.load(adapter, "cpu")
    assert "\n" not in str(refusal.value)


def test_a_base_model_of_other_sizes_is_one_line(adapter, model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    short = {name: value[:-1].clone() if "word_embeddings" in name else value for name, value in weights.items()}
    save_file(short, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    change(adapter, base_model_name_or_path=str(tmp_path / "base"))
    with pytest.raises(ArtifactError) as refusal:
        deni.load(adapter, "cpu")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", ["lora_A", "classifier", "pooler"])
def test_an_adapter_that_lacks_weights_is_refused(adapter, part):
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if part not in name}, file, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors is incomplete: .* missing"):
        deni.load(adapter, "cpu")


def test_weights_that_are_not_finite_or_pickled_are_refused(adapter):
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    save_file({name: value * np.nan for name, value in weights.items()}, file, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors"):
        deni.load(adapter, "cpu")
    torch.save(weights, adapter / "adapter_model.bin")
    file.unlink()
    with pytest.raises(ArtifactError, match=r"adapter_model.safetensors is missing"):
        deni.load(adapter, "cpu")


def test_an_adapter_is_no_model_to_train(adapter):
    with pytest.raises(InputError, match=r"it is a PEFT adapter, not a model to train: give its base model"):
        load_model(str(adapter), ["a", "b"])
