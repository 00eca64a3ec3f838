"""Trainings by transformers' Trainer and by ours, on the same rows in the same order, and how far they are apart."""

import random

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

from deni.strategies import Default
from deni.training.trainer import PopulationTrainer
from tests.helpers.tiny import make_tiny


class InOrder:
    """Rows in their order, for a trainer of ours and for transformers' alike."""

    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


class Reference(InOrder, Trainer):
    pass


class Ours(InOrder, PopulationTrainer):
    pass


class WeightedLoss:
    """The most common customization of all, for a trainer of ours and for transformers' alike."""

    weights = (1.0, 8.0, 0.3)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        weights = torch.tensor(self.weights, dtype=outputs.logits.dtype)
        loss = nn.functional.cross_entropy(outputs.logits, labels, weight=weights)
        return (loss, outputs) if return_outputs else loss


class ReferenceWeighted(WeightedLoss, Reference):
    pass


class OursWeighted(WeightedLoss, Ours):
    pass


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):  # of fused attention
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model


def plain(architecture="bert", **options):
    return without_dropout(make_tiny(architecture, **options))


def rows(count=22, seed=1, tokens=False):
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        length = draw.randrange(4, 10)
        labels = [draw.choice([0, 1, 2, -100]) for _ in range(length)] if tokens else draw.randrange(3)
        made.append({"input_ids": [draw.randrange(5, 60) for _ in range(length)], "labels": labels})
    return made


def collate(features):
    """Padded on the right with 1, which every tiny model takes for padding, or does not attend to."""
    longest = max(len(each["input_ids"]) for each in features)

    def padded(values, fill):
        return [list(each) + [fill] * (longest - len(each)) for each in values]

    ids = [each["input_ids"] for each in features]
    labels = [each["labels"] for each in features]
    return {
        "input_ids": torch.tensor(padded(ids, 1)),
        "attention_mask": torch.tensor(padded([[1] * len(each) for each in ids], 0)),
        "labels": torch.tensor(padded(labels, -100) if isinstance(labels[0], list) else labels),
    }


def trained(
    folder, cls, model, *, data=None, evaluated=None, args=None, strategy=None, collator=None, resume=None, **options
):
    """A training of a tiny model with plain SGD; `options` go to the trainer."""
    settings = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.3,
        "optim": "sgd",
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": True,
        "max_grad_norm": 0.0,
        **(args or {}),
    }
    if issubclass(cls, PopulationTrainer):
        options["strategy"] = strategy or Default()
    trainer = cls(
        model,
        TrainingArguments(str(folder), **settings),
        train_dataset=data or rows(),
        eval_dataset=evaluated or rows(8, seed=2),
        data_collator=collator or collate,
        **options,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def moved(trainer):
    """The trained tensors of a trainer's model, or of each member; they moved from where they began."""
    if not isinstance(trainer, PopulationTrainer):
        return [{name: value.detach() for name, value in trainer.model.named_parameters() if value.requires_grad}]
    return [trainer.population.member(member) for member in range(trainer.population.size)]


def apart(ours, theirs, start):
    """Largest difference from the reference, in units of the largest way that a weight moved."""
    expected, began = moved(theirs)[0], dict(start.named_parameters())
    way = max(float((value - began[name].detach()).abs().max()) for name, value in expected.items())
    assert way > 1e-3
    return max(float((each[name] - expected[name]).abs().max()) for each in moved(ours) for name in expected) / way
