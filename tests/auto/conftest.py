import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import transformers

from deni.data import Texts
from deni.randomness import global_generators
from tests.helpers.tiny import toy_rows


@pytest.fixture(scope="session")
def sentence_encoder(model_folder, tmp_path_factory) -> str:
    """The tiny BERT, with the files by which a sentence encoder says that it takes the mean, at length 1."""
    folder = tmp_path_factory.mktemp("sentence") / "tiny-sentence-bert"
    shutil.copytree(model_folder, folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return str(folder)


# What a text of each task has, from a class's name and the number of the text.
LABELS = {
    "single_label": lambda label, at: label,
    "multi_label": lambda label, at: (label, "odd") if at % 2 else (label,),
    "ordinal": lambda label, at: str(len(label)),
    "regression": lambda label, at: len(label) + at / 100,
}


@pytest.fixture(scope="session")
def texts_of():
    """Toy texts with labels of a task; pairs are of two texts each."""

    def make(task="single_label", each=4, pairs=False):
        rows = toy_rows(each)
        texts = [text for text, _ in rows]
        if task == "token":
            words = [tuple(text.split()) for text in texts]
            tags = [tuple("B-long" if len(word) > 5 else "O" for word in own) for own in words]
            return Texts(words, tags, "toy", pd.DataFrame(), task)
        labels = [LABELS[task](label, at) for at, (_, label) in enumerate(rows)]
        if pairs:
            texts = list(zip(texts, texts[1:] + texts[:1], strict=True))
        order = sorted(set(labels)) if task == "ordinal" else ()
        return Texts(texts, labels, "toy", pd.DataFrame(), task, order)

    return make


@pytest.fixture
def root() -> Path:
    """The folder of the project."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def other_encoder(model_folder, tmp_path_factory) -> str:
    """As the tiny BERT, of half its width and other weights."""
    folder = tmp_path_factory.mktemp("other") / "other-bert"
    shutil.copytree(model_folder, folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.hidden_size, config.intermediate_size = 16, 24
    with global_generators(5):
        transformers.BertModel(config).save_pretrained(folder)
    return str(folder)
