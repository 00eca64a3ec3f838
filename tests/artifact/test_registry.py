"""What predicts is in the artifact: neither the strategies nor the tunings of the process that loads it matter."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from deni.artifact import load, read_info
from deni.data import read_texts
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import Ensemble
from tests.helpers.forked import run

TEXTS = ["invoice money charged", "parcel late courier the box", "why"]
LOAD = """
import json, sys
import deni
classifier = deni.load(sys.argv[1], "cpu")
votes = classifier.votes(json.loads(sys.argv[2]))
known = [name for name in sys.modules if name.startswith("deni.strategies")]
print(json.dumps({"votes": votes.tolist(), "known": known, "strategy": classifier.info["strategy"]}))
"""


@dataclass(frozen=True)
class Crowd(Ensemble):
    """A strategy of a user, which no registry has, with a setting that no other strategy has."""

    name: ClassVar[str] = "crowd"
    combine: str = "hard"
    mood: str = "calm"


@pytest.fixture(scope="module")
def trained(model_folder, tickets):
    return fine_tune(
        read_texts(tickets), Recipe.of(None, Crowd(members=3), model=model_folder, epochs=1), progress=False
    )


@pytest.fixture
def saved(trained, tmp_path):
    return trained.save(tmp_path / "model")


def load_elsewhere(folder: Path) -> dict:
    """Load and predict in a process of its own."""
    return json.loads(run(LOAD, folder, json.dumps(TEXTS)).stdout.splitlines()[-1])


def test_a_model_of_a_strategy_of_the_users_own_predicts_where_nobody_knows_it(trained, saved):
    elsewhere = load_elsewhere(saved)
    expected = trained.classifier().votes(TEXTS)
    assert np.array_equal(np.array(elsewhere["votes"], dtype=expected.dtype), expected)
    shares = 3 * np.exp(expected)  # of a hard vote: whole members
    assert np.allclose(shares, shares.round(), atol=1e-5)
    assert elsewhere["strategy"]["name"] == "crowd"
    assert elsewhere["strategy"]["settings"]["mood"] == "calm"
    assert elsewhere["known"] == []


def test_a_setting_that_is_gone_does_not_matter(saved, trained):
    info = json.loads((saved / "deni.json").read_text())
    strategy = {"name": "ensemble", "settings": {"combine": "loudest", "gone": 1}}
    tuning = {"name": "full", "settings": {"gone": 1}}
    (saved / "deni.json").write_text(json.dumps({**info, "strategy": strategy, "tuning": tuning}))
    assert np.array_equal(load(saved, "cpu").votes(TEXTS), trained.classifier().votes(TEXTS))


@pytest.mark.usefixtures("nothing_registered")
def test_empty_registries_do_not_matter(saved, trained):
    expected = trained.classifier().votes(TEXTS)
    assert np.array_equal(load(saved, "cpu").votes(TEXTS), expected)


def test_an_artifact_says_what_predicting_needs(saved):
    info = read_info(saved)
    assert info["format"] == 2
    assert info["vote"] == {"combine": "hard"}
    assert (info["task"], info["padding"], info["runs"], info["members"]) == ("single_label", "longest", 3, 1)
    assert isinstance(info["max_length"], int)
    assert info["engine"] in ("loop", "stacked")
