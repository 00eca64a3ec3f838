"""A trainer pushes its artifact, by a server that speaks the hub's protocol."""

import numpy as np
import pytest
from huggingface_hub import ModelCard

import deni
from deni.errors import InputError, SettingError
from deni.strategies import DelayedEnsemble
from tests.helpers.tiny import toy_rows
from tests.helpers.trainers import make

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TEXTS = [text for text, _ in toy_rows(2)]


@pytest.fixture
def trainer(tmp_path, fitted, hub):
    """One whose population is trained."""
    result = fitted("delayed_ensemble", members=2)
    settings = {"max_steps": 2, "hub_model_id": "someone/model", "hub_private_repo": True}
    made = make(tmp_path, DelayedEnsemble(members=2), args=settings, processing_class=result.tokenizer)
    made.train()
    return made


def test_a_trainer_pushes_the_artifact_and_nothing_else(trainer, hub, tmp_path):
    (tmp_path / "out" / "notes.txt").write_text("mine")
    commit = trainer.push_to_hub("Trained", license="mit", language="en", finetuned_from="org/base")
    assert commit.commit_message == "Trained"
    files = hub.files("someone/model")
    assert not {"training_args.bin", "notes.txt"} & files.keys()
    assert hub.models["someone/model"].private
    card = ModelCard(files["README.md"].decode())
    assert (card.data.base_model, card.data.license, card.data.language) == ("org/base", "mit", ["en"])
    members = deni.load("someone/model", "cpu").members(TEXTS)
    assert np.array_equal(members, deni.load(tmp_path / "out", "cpu").members(TEXTS))


def test_a_push_in_the_background_to_a_branch_is_a_future(trainer, hub):
    trainer.args.hub_model_id = "model"  # of whoever's token it is
    commit = trainer.push_to_hub(blocking=False, revision="v1", private=False).result()
    assert commit.oid == hub.models["someone/model"].refs["v1"]
    assert "deni.json" not in hub.files("someone/model")
    assert not hub.models["someone/model"].private


def test_what_a_push_refuses_is_one_line(trainer, hub, monkeypatch):
    with pytest.raises(SettingError, match="push_to_hub does not take tags: its card takes language, license, "):
        trainer.push_to_hub(tags=["mine"])
    with pytest.raises(InputError, match="someone/model may not be written with this token"):
        trainer.push_to_hub(token="hf_read")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="someone/model cannot be pushed: HF_HUB_OFFLINE is set"):
        trainer.push_to_hub()
