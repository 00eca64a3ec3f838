"""Loading a folder runs no code from it, whatever its files ask for and whoever says yes."""

import ast
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers

import deni
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
    with pytest.raises(ArtifactError, match="which deni never runs"):
        load(folder)
    assert not ran.exists()


def test_a_tokenizer_with_code_is_not_run(fitted, tmp_path, ran):
    saved = fitted().save(tmp_path / "saved")
    folder = with_code(saved, tmp_path / "model")
    shutil.copy(saved / "config.json", folder / "config.json")
    try:
        load(folder)  # transformers may have a class of its own for the configuration's kind
    except ArtifactError as error:
        assert "which deni never runs" in str(error)
    assert not ran.exists()


@pytest.mark.parametrize("read", [load_config, load_tokenizer, lambda folder: load_model(folder, ["a", "b"])])
def test_a_base_model_with_code_is_refused(read, model_folder, tmp_path, ran):
    with pytest.raises(InputError, match="cannot be loaded"):
        read(str(with_code(model_folder, tmp_path / "model")))
    assert not ran.exists()


# ---- kernels and modules -------------------------------------------------------------------------------------------


@pytest.fixture
def fetched(monkeypatch):
    """The kernels that transformers would fetch and run."""
    names: list[str] = []

    def fetch(name, *_, **__):
        names.append(name)
        raise RuntimeError("fetched")

    hub = transformers.integrations.hub_kernels
    monkeypatch.setattr(hub, "load_and_register_attn_kernel", fetch, raising=False)  # 4.57 has it elsewhere
    for name in ("load_and_register_attn_kernel", "load_and_register_kernel"):
        monkeypatch.setattr(transformers.modeling_utils, name, fetch, raising=False)
    return names


def with_config(folder: str | Path, copy: Path, **changed: object) -> Path:
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changed))
    return copy


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation"])
def test_a_kernel_that_a_configuration_names_is_not_fetched(key, fitted, model_folder, tmp_path, fetched):
    texts = ["where is my parcel", "my refund"]
    saved = fitted().save(tmp_path / "saved")
    expected = load(saved)(texts)
    artifact = with_config(saved, tmp_path / "artifact", **{key: "somebody/evil-kernel"})
    assert load(artifact)(texts) == expected
    base = with_config(model_folder, tmp_path / "base", **{key: "somebody/evil-kernel"})
    load_model(str(base), ["a", "b"])
    assert fetched == []


def test_a_module_that_an_adapter_names_is_not_imported(fitted, tmp_path, monkeypatch):
    saved = fitted(tuning="lora").save(tmp_path / "saved")
    adapter = json.loads((saved / "adapter_config.json").read_text())
    own = {"megatron_config": {"tensor_model_parallel_size": 1}, "megatron_core": "evil_module_of_the_folder"}
    (saved / "adapter_config.json").write_text(json.dumps(adapter | own))
    (tmp_path / "evil_module_of_the_folder.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ArtifactError, match="megatron_core has PEFT import"):
        load(saved)
    assert not (tmp_path / "ran").exists()


def test_nothing_else_in_the_source_reads_a_model():
    source = Path(deni.__file__).parent
    for file in source.rglob("*.py"):
        if file.relative_to(source).as_posix() == "models/reading.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("from_pretrained", "get_class_from_dynamic_module"), file
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                raise AssertionError(file)
