"""Which objective a model can learn, and what its files hold besides."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from deni.adaptation.starting import start_from
from deni.errors import InputError, SettingError
from deni.models.pooling import Pooling
from deni.randomness import global_generators
from tests.helpers.tiny import SMALL


def test_a_model_with_a_head_learns_masked_tokens_and_keeps_its_pooler(masked_folder):
    start = start_from(masked_folder)
    assert (start.objective.name, start.files) == ("mlm", {})
    stored = load_file(Path(masked_folder) / "model.safetensors")
    assert start.kept.keys() == {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    assert all(torch.equal(value, stored[name]) for name, value in start.kept.items())


def test_a_sentence_encoder_learns_by_contrast_with_its_own_pooling(sentence_folder):
    start = start_from(sentence_folder)
    assert (start.objective.name, start.objective.pooling) == ("simcse", Pooling("mean"))
    names = {"modules.json", "sentence_bert_config.json", "1_Pooling/config.json"}
    assert start.files.keys() == names
    assert all((Path(sentence_folder) / name).read_text() == text for name, text in start.files.items())


def test_the_other_objective_can_be_chosen(masked_folder):
    assert start_from(masked_folder, "simcse").objective.name == "simcse"


def test_a_head_that_the_files_lack_is_refused(model_folder):
    message = r"has no trained head for masked language modelling \(its files lack 'cls.predictions"
    with pytest.raises(SettingError, match=message):
        start_from(model_folder, "mlm")


def test_loading_draws_nothing_from_the_generators_of_the_caller(model_folder):
    before = torch.get_rng_state()
    start_from(model_folder)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("architecture", ["roberta", "distilbert", "albert", "mpnet", "electra", "modernbert"])
def test_heads_are_found_in_all_architectures(architecture, model_folder, tmp_path):
    family, sizes = SMALL[architecture]
    shutil.copytree(model_folder, tmp_path / "m")
    with global_generators(0):
        model = getattr(transformers, f"{family}ForMaskedLM")(getattr(transformers, f"{family}Config")(**sizes))
        model.save_pretrained(tmp_path / "m")
    assert start_from(str(tmp_path / "m")).objective.name == "mlm"
    getattr(model, model.base_model_prefix).save_pretrained(tmp_path / "m")
    with pytest.raises(SettingError, match="its files lack"):
        start_from(str(tmp_path / "m"), "mlm")


def test_a_decoder_has_no_such_head(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "m")
    transformers.GPT2Model(transformers.GPT2Config(**SMALL["gpt2"][1])).save_pretrained(tmp_path / "m")
    with pytest.raises(SettingError, match="without a head for masked language modelling"):
        start_from(str(tmp_path / "m"), "mlm")
    assert start_from(str(tmp_path / "m")).objective.name == "simcse"


def test_modules_that_would_not_be_trained_are_refused(sentence_folder, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(sentence_folder, folder)
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(SettingError, match="modules behind its encoder that simcse does not train"):
        start_from(str(folder))


@pytest.mark.parametrize(
    ("model", "objective", "message"),
    [
        ("minilm", "mlmm", "unknown objective 'mlmm': did you mean mlm"),
        ("auto:a,b", "auto", "names several models"),
        ("./nothing", "auto", "cannot be loaded: no such folder"),
    ],
)
def test_what_cannot_be_is_refused(model, objective, message):
    with pytest.raises((InputError, SettingError), match=message):
        start_from(model, objective)
