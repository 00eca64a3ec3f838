"""Loading a folder runs no code from it, whatever its files ask for and whoever says yes."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers

from deni.artifact import load
from deni.errors import ArtifactError, InputError
from deni.models.loading import load_config, load_model, load_tokenizer

CODE = """
import os
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

Path(os.environ["CODE_RAN"]).touch()


class Config(BertConfig):
    model_type = "unheard_of"


class Tokenizer(BertTokenizer):
    pass


class Model(BertForSequenceClassification):
    config_class = Config
"""


@pytest.fixture
def ran(monkeypatch, tmp_path) -> Iterator[Path]:
    """A file that the folder's code makes, on a terminal where the user answers every question with yes."""
    monkeypatch.setenv("CODE_RAN", str(tmp_path / "ran"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    yield tmp_path / "ran"
    for name in set(sys.modules) - modules:
        if name.startswith("transformers_modules"):
            del sys.modules[name]


def with_code(folder: str | Path, copy: Path) -> Path:
    """A copy of a folder whose configuration and tokenizer are classes of a file in it."""
    shutil.copytree(folder, copy)
    (copy / "code.py").write_text(CODE)
    config = json.loads((copy / "config.json").read_text())
    classes = {"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model"}
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "unheard_of", "auto_map": classes}))
    tokenizer = json.loads((copy / "tokenizer_config.json").read_text())
    own = {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
    (copy / "tokenizer_config.json").write_text(json.dumps(tokenizer | own))
    return copy


def test_the_code_of_the_fixture_runs_where_it_is_trusted(model_folder, tmp_path, ran):
    transformers.AutoConfig.from_pretrained(with_code(model_folder, tmp_path / "model"))
    assert ran.exists()


def test_an_artifact_with_code_is_refused(fitted, tmp_path, ran):
    folder = with_code(fitted().save(tmp_path / "saved"), tmp_path / "model")
    with pytest.raises(ArtifactError, match="code from the folder is never run"):
        load(folder)
    assert not ran.exists()


def test_a_tokenizer_with_code_is_not_run(fitted, tmp_path, ran):
    saved = fitted().save(tmp_path / "saved")
    folder = with_code(saved, tmp_path / "model")
    shutil.copy(saved / "config.json", folder / "config.json")
    try:
        load(folder)  # transformers may have a class of its own for the configuration's kind
    except ArtifactError as error:
        assert "code from the folder is never run" in str(error)
    assert not ran.exists()


@pytest.mark.parametrize("read", [load_config, load_tokenizer, lambda folder: load_model(folder, ["a", "b"])])
def test_a_base_model_with_code_is_refused(read, model_folder, tmp_path, ran):
    with pytest.raises(InputError, match="cannot be loaded"):
        read(str(with_code(model_folder, tmp_path / "model")))
    assert not ran.exists()
