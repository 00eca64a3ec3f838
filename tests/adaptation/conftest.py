"""Tiny models with and without a head for masked tokens, and a pool of toy texts."""

import json
import shutil
from pathlib import Path

import pytest
import transformers

from deni.randomness import global_generators
from tests.helpers.tiny import SIZES, toy_rows


@pytest.fixture(scope="session")
def masked_folder(model_folder, tmp_path_factory):
    """As bert-base-uncased is: an encoder with a pooler, a head for masked tokens, one for the next sentence."""
    folder = tmp_path_factory.mktemp("masked") / "tiny-masked"
    shutil.copytree(model_folder, folder)
    config = transformers.BertConfig(**{**SIZES, "vocab_size": 160})
    with global_generators(1):
        transformers.BertForPreTraining(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def sentence_folder(model_folder, tmp_path_factory):
    """A sentence encoder: no head, and the files of sentence-transformers, which say that tokens are averaged."""
    folder = tmp_path_factory.mktemp("sentence") / "tiny-sentence"
    shutil.copytree(model_folder, folder)
    kinds = ("Transformer", "Pooling")
    modules = [
        {"idx": at, "name": str(at), "path": f"{at}_{kind}" * at, "type": f"sentence_transformers.models.{kind}"}
        for at, kind in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    pooling |= {"pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 30, "do_lower_case": False}))
    return str(folder)


@pytest.fixture(scope="session")
def texts():
    """120 toy sentences, each once."""
    found = list(dict.fromkeys(text for text, _ in toy_rows(45)))
    assert len(found) >= 120
    return found[:120]


@pytest.fixture
def read():
    """The JSON that an adapted folder has of its making."""
    return lambda folder: json.loads((Path(folder) / "adaptation.json").read_text())
