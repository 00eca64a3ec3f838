"""Vectors of the labeled texts in an artifact: what they are, that they are read as written, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from deni.artifact import SCOPE, Classifier, load, read_scope, scope_of
from deni.data import read_texts
from deni.errors import ArtifactError, InputError
from deni.measures import fit_gaussian, mahalanobis, percentiles

TEXTS = ["invoice money charged", "parcel late courier the box", "why"]


@pytest.fixture
def trained(fitted, tickets):
    """A classifier and the texts that it was trained on."""

    def classifier(**settings):
        result, texts = fitted(**settings), read_texts(tickets).texts
        return replace(result, scope=scope_of(result.classifier(), texts)), texts

    return classifier


@pytest.mark.parametrize("settings", [{}, {"tuning": "lora"}, {"strategy": "ensemble", "members": 2}])
def test_features_are_what_the_first_member_feeds_into_its_output_layer(fitted, settings):
    result = fitted(**settings)
    classifier, seen = result.classifier(), []
    with torch.no_grad(), classifier.population.alone(0) as model:
        head = model.base_model.model.classifier if "tuning" in settings else model.classifier
        hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        model.eval()
        for text in TEXTS:  # one by one: without padding
            model(**classifier.tokenizer(text, return_tensors="pt"))
        hook.remove()
    np.testing.assert_allclose(classifier.features(TEXTS), torch.cat(seen).numpy(), atol=1e-6)


def test_features_leave_the_predictions_as_they_are(fitted):
    classifier = fitted(strategy="ensemble", members=2).classifier()
    before = classifier.members(TEXTS)
    classifier.features(TEXTS)
    np.testing.assert_array_equal(classifier.members(TEXTS), before)


def test_an_artifact_knows_how_unlike_its_labeled_texts_others_are(trained, tmp_path):
    result, texts = trained()
    known, new = fit_gaussian(result.classifier().features(texts)), result.classifier().features(TEXTS)
    expected = percentiles(known.distances, mahalanobis(known.mean, known.root, new))
    found = result.classifier().scope(TEXTS)
    np.testing.assert_allclose(found, expected, atol=100 / 36)  # kept in float32: at most one text changes sides
    loaded = load(result.save(tmp_path / "model"), "cpu")
    np.testing.assert_array_equal(loaded.scope(TEXTS), found)
    assert SCOPE in loaded.info["files"]


def test_a_model_whose_vectors_are_all_alike_knows_no_scope(fitted):
    assert scope_of(fitted().classifier(), ["why", "why"]) is None
    assert scope_of(fitted().classifier(), ["why"]) is None


def test_of_many_labeled_texts_some_are_read(fitted, tickets, monkeypatch):
    monkeypatch.setattr("deni.artifact.scope.MOST", 4)
    classifier, texts = fitted().classifier(), read_texts(tickets).texts
    expected = fit_gaussian(classifier.features([texts[at] for at in (0, 12, 23, 35)]))
    np.testing.assert_allclose(scope_of(classifier, texts).distances, expected.distances, rtol=1e-4)


def test_an_artifact_without_its_labeled_texts_is_refused(fitted):
    trained = fitted(epochs=1)
    classifier = Classifier(trained.trainer.population, trained.tokenizer, trained.labels, trained.info())
    with pytest.raises(InputError, match=r"does not know where its labeled texts lie, .*: train it again"):
        classifier.scope(TEXTS)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"mean": np.zeros(3), "root": np.eye(3)}, "distances is missing"),
        ({"mean": np.eye(3)}, "mean is not an array .* with 1 axes"),
        ({"mean": np.full(2, np.nan)}, "mean is not an array of finite numbers"),
        (
            {"mean": np.zeros(3), "root": np.eye(2), "distances": np.ones(4)},
            r"root is \(2, 2\) for a mean of 3 numbers",
        ),
    ],
)
def test_damaged_vectors_are_named(tmp_path, tensors, why):
    (tmp_path / "deni.json").write_text("{}")
    (tmp_path / SCOPE).write_bytes(save(tensors))
    with pytest.raises(ArtifactError, match=why):
        read_scope(tmp_path)


def test_vectors_that_are_gone_are_missed(tmp_path):
    (tmp_path / "deni.json").write_text(json.dumps({"files": {SCOPE: 5}}))
    with pytest.raises(ArtifactError, match=r"scope.safetensors is missing"):
        read_scope(tmp_path)
    (tmp_path / SCOPE).write_bytes(b"1234")
    with pytest.raises(ArtifactError, match="has 4 bytes where 5 were written"):
        read_scope(tmp_path)
    (tmp_path / "deni.json").write_text("{}")
    (tmp_path / SCOPE).unlink()
    assert read_scope(tmp_path) is None
