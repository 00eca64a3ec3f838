"""Artifacts of format 1, written by `format_1/write.py`, load and predict what they did when they were written."""

import json
from pathlib import Path

import numpy as np
import pytest

import deni
from deni.artifact.format_1 import converted

CASES = sorted(Path(__file__).with_name("format_1").glob("*/expected.json"))
TOLERANCE = 1e-6


@pytest.mark.usefixtures("nothing_registered")
@pytest.mark.parametrize("file", CASES, ids=[file.parent.name for file in CASES])
def test_an_artifact_of_format_1_predicts_what_it_did(file):
    expected = json.loads(file.read_text(encoding="utf-8"))
    texts = [tuple(text) if file.parent.name == "pair" else text for text in expected["texts"]]
    classifier = deni.load(file.parent, "cpu")
    assert classifier.task == expected["task"]
    assert classifier.labels == expected["labels"]
    np.testing.assert_allclose(classifier.members(texts), expected["members"], rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(classifier.votes(texts), expected["votes"], rtol=TOLERANCE, atol=TOLERANCE)
    assert_close(classifier.predict(texts), expected["predict"])
    assert_close(classifier(texts), expected["call"])


def test_there_is_an_artifact_of_each_kind():
    info = [json.loads(file.with_name("deni.json").read_text(encoding="utf-8")) for file in CASES]
    assert {each["format"] for each in info} == {1}
    assert {each["task"] for each in info} == {"single_label", "multi_label", "regression", "token"}
    assert {each["tuning"]["name"] for each in info if "tuning" in each} == {"full", "lora", "ia3", "prompt"}
    assert len(CASES) == 12


@pytest.mark.parametrize(
    ("name", "settings", "combine"),
    [
        ("default", {}, "soft"),
        ("deni", {"members": 3, "combine": "parent"}, "parent"),
        ("noisy_interpolation", {"combine": "hard"}, "hard"),
        ("best_practices+ensemble", {"best_practices": {}, "ensemble": {"combine": "hard"}}, "hard"),
        ("noisy_interpolation+ensemble", {"noisy_interpolation": {"combine": "hard"}, "ensemble": {}}, "soft"),
        ("swa+noisy_interpolation", {"swa": {}, "noisy_interpolation": {"combine": "hard"}}, "hard"),
        ("swa+best_practices", {"swa": {}, "best_practices": {}}, "soft"),
    ],
)
def test_the_vote_of_format_1_follows_from_the_strategys_settings(name, settings, combine):
    assert converted({"strategy": {"name": name, "settings": settings}})["vote"] == {"combine": combine}


def test_unipelt_of_format_1_pads_fully():
    info = {"tuning": {"name": "unipelt", "settings": {}}, "max_length": 12}
    assert converted(info)["padding"] == "max_length"
    assert converted({**info, "tuning": {"name": "lora", "settings": {}}})["padding"] == "longest"
    assert converted({"tuning": {"name": "unipelt"}})["padding"] == "longest"  # PopulationTrainer says no length


def assert_close(actual, expected):
    """Equal, numbers up to the tolerance."""
    if isinstance(expected, dict):
        assert actual.keys() >= expected.keys()
        actual = {key: actual[key] for key in expected}
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, abs=TOLERANCE)
    else:
        assert actual == expected
