"""Trainers of tiny models over made-up rows, and what they are compared by."""

import random

import torch
from datasets import Dataset
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from deni.training.trainer import PopulationTrainer
from deni.tuning import Lora

CONFIG = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "num_labels": 3,
}


def bert(**config):
    return BertForSequenceClassification(BertConfig(**{**CONFIG, **config})).double()


def fresh():
    return bert()


def seeded(**config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return bert(**config)


def lora():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Lora(lora_r=4, lora_alpha=4).apply(seeded())


def rows(count=40, seed=1):
    draw = random.Random(seed)
    return [
        {
            "input_ids": [draw.randrange(1, 60) for _ in range(9)],
            "labels": draw.randrange(3),
        }
        for _ in range(count)
    ]


def padded(count=24, seed=1):
    """Texts of different lengths with masks, as a tokenizer gives them."""
    draw = random.Random(seed)
    lengths = [draw.randrange(3, 12) for _ in range(count)]
    ids = [[draw.randrange(1, 60) for _ in range(length)] for length in lengths]
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "attention_mask": [[1] * length for length in lengths],
            "labels": [draw.randrange(3) for _ in range(count)],
            "comment": ["not for the model"] * count,
        }
    )


def pad(features):
    longest = max(len(feature["input_ids"]) for feature in features)
    return {
        key: torch.tensor([feature[key] + [0] * (longest - len(feature[key])) for feature in features])
        for key in ("input_ids", "attention_mask")
    } | {"labels": torch.tensor([feature["labels"] for feature in features])}


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def make(tmp_path, strategy=None, *, model=None, model_init=None, train=None, args=None, **options):
    settings = {
        "num_train_epochs": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": True,
        "max_grad_norm": 0.0,
        "lr_scheduler_type": "linear",
        "logging_steps": 5,
        **(args or {}),
    }
    if model is None and model_init is None:
        model = seeded()
    return PopulationTrainer(
        model,
        TrainingArguments(str(tmp_path / "out"), **settings),
        strategy=strategy,
        model_init=model_init,
        train_dataset=rows() if train is None else train,
        **options,
    )


def values(trainer):
    return {name: value.clone() for name, value in trainer.population.values.items()}


def distance(a, b):
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
