"""Fixtures: four labelled texts, augmented ones of them in a file, and a trainer over them."""

import pandas as pd
import pytest
from datasets import Dataset
from transformers import AutoTokenizer, DataCollatorWithPadding

from tests.helpers.augmenters import LABELS, TEXTS
from tests.helpers.plain import bert, make


@pytest.fixture
def tokenizer(model_folder):
    return AutoTokenizer.from_pretrained(model_folder)


@pytest.fixture
def augmented(tmp_path):
    """Four augmented texts for each labelled one, in an order of their own, and some of a text that is not there."""
    made = [(f"{text} {word}", text) for text in TEXTS for word in ("box", "money", "code", "email")]
    made += [("nobody asked for this", "no such text")] * 2
    frame = pd.DataFrame(made, columns=["text", "seed"]).assign(label="whatever")
    frame.to_csv(tmp_path / "augmented.csv", index=False)
    return str(tmp_path / "augmented.csv")


@pytest.fixture
def labelled(tokenizer):
    tokens = tokenizer(TEXTS)
    return Dataset.from_dict({"text": TEXTS, **{key: tokens[key] for key in tokens}, "labels": LABELS})


@pytest.fixture
def build(tmp_path, tokenizer, labelled):
    def build(strategy, seed=42, **options):
        return make(
            tmp_path,
            strategy,
            model=options.pop("model", None) or bert(vocab_size=160),
            train=options.pop("train", labelled),
            args={"seed": seed, "per_device_train_batch_size": 2, **options.pop("args", {})},
            processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer),
            **options,
        )

    return build
