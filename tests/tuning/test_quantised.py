"""A base in 4 bits (bitsandbytes) stays frozen and shared under members of LoRA; on a GPU where there is one."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, BertConfig, BitsAndBytesConfig, TrainingArguments

from deni import artifact
from deni.randomness import global_generators
from deni.strategies import DENI
from deni.trainer import PopulationTrainer
from deni.tuning import Lora

bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs bitsandbytes")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {
    "vocab_size": 60,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


@pytest.fixture(autouse=True)
def _without_a_format_for_inference(monkeypatch):
    """On some processors evaluation repacks the weights for good, and they cannot be trained over any more."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    with global_generators(0):
        AutoModelForSequenceClassification.from_config(BertConfig(num_labels=3, **SIZES)).save_pretrained(path)
    return path


def quantised(folder):
    """The base in 4 bits but for its pooler and output layer, with LoRA."""
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["pooler", "classifier"],
    )
    base = AutoModelForSequenceClassification.from_pretrained(
        folder, quantization_config=config, device_map={"": DEVICE}, dtype=torch.float32
    )
    with global_generators(1):
        return Lora(lora_r=4, lora_alpha=4, lora_bias="none").apply(base)


def rows():
    draw = np.random.default_rng(2)
    labels = draw.integers(3, size=32)
    ids = [[int(5 + 10 * label + word) for word in draw.integers(10, size=7)] for label in labels]
    return Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * 7] * 32, "labels": labels.tolist()})


def train(folder, tmp_path, engine):
    args = TrainingArguments(
        str(tmp_path / engine),
        num_train_epochs=15,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=DEVICE == "cpu",
        per_device_train_batch_size=8,
    )
    trainer = PopulationTrainer(quantised(folder), args, strategy=DENI(members=3), train_dataset=rows(), engine=engine)
    frozen = {name: value.detach().clone() for name, value in trainer.population.named_buffers()}
    trainer.train()
    return trainer, frozen


def test_members_over_a_base_in_4_bits_are_stacked_and_equal_the_loop(folder, tmp_path):
    stacked, _ = train(folder, tmp_path, "stacked")
    loop, _ = train(folder, tmp_path, "loop")
    assert stacked.population.engine_name == "stacked"
    assert loop.population.engine_name == "loop"
    said = stacked.predict_members(rows())
    assert said.shape == (32, 3, 3)
    assert np.abs(said[:, 0] - said[:, 1]).max() > 0
    assert np.allclose(said, loop.predict_members(rows()), atol=2e-3)
    assert (stacked.predict(rows()).predictions.argmax(-1) == np.array(rows()["labels"])).mean() > 0.8
