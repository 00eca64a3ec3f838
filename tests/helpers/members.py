"""Members in plain PyTorch, which strategies that fork are compared with."""

import copy
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from datasets import Dataset
from transformers import TrainerCallback, TrainingArguments

from deni.engine.dropout import MemberDropout, Streams
from deni.randomness import Sources
from deni.training.trainer import PopulationTrainer
from tests.helpers.plain import bert

STEPS, BATCH, RATE, SEED = 40, 4, 1e-2, 42
HEAD = ("classifier.weight", "classifier.bias")


def tiny():
    """A model for `model_init`, always the same."""
    return bert()


def texts(count=40, seed=1):
    draw = random.Random(seed)
    ids = [[draw.randrange(5, 60) for _ in range(7)] for _ in range(count)]
    return Dataset.from_dict({"input_ids": ids, "labels": [each[2] % 3 for each in ids]})


def make(folder, strategy, engine="stacked", args=None, **options):
    """A trainer that will train for 40 steps on 40 texts."""
    settings = {
        "num_train_epochs": 4,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "weight_decay": 0.0,
        "max_grad_norm": 0.0,
        "seed": SEED,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **(args or {}),
    }
    model = None if "model_init" in options else bert()
    options = {"train_dataset": texts(), **options}
    return PopulationTrainer(
        model, TrainingArguments(str(folder), **settings), strategy=strategy, engine=engine, **options
    )


def trained(folder, strategy, engine="stacked", **options):
    """The same when it has trained."""
    trainer = make(folder, strategy, engine, **options)
    trainer.train()
    return trainer


class Member:
    """One model with its optimiser and its stream of dropout."""

    def __init__(self, sources: Sources):
        self.model, self.sources, self.stream = bert().train(), sources, sources["dropout"]
        self.lane = ()  # () for the order of the run, (copy,) for one of a copy's own
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0)

    def train(self, first: int, stop: int, steps: int = STEPS) -> None:
        """Optimiser steps `first` to `stop`, with linear decay over `steps`."""
        data = texts()
        for step in range(first, stop):
            epoch, at = divmod(step * BATCH, len(data))
            order = torch.randperm(
                len(data), generator=self.sources.derived("sample_order", epoch, *self.lane)
            ).tolist()
            batch = data[order[at : at + BATCH]]
            with MemberDropout(Streams([self.stream])):
                logits = self.model(input_ids=torch.tensor(batch["input_ids"])).logits
            F.cross_entropy(logits, torch.tensor(batch["labels"])).backward()
            self.optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def copies(self, count: int, variance: float, fork: int, noisy: Sequence[str] = HEAD) -> list["Member"]:
        """Itself, and copies with noise on the head, or on what is named."""
        members = [self]
        for number in range(1, count):
            other = copy.copy(self)
            other.model = copy.deepcopy(self.model)
            other.optimizer = torch.optim.AdamW(other.model.parameters(), lr=RATE, weight_decay=0.0)
            other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
            other.stream = self.sources.derived("dropout", "fork", fork, number)
            with torch.no_grad():
                for name in noisy:
                    weight = other.model.get_parameter(name)
                    eps = torch.randn(weight.shape, generator=self.sources["noise"], dtype=weight.dtype)
                    weight += variance**0.5 * float(weight.float().std()) * eps
            members.append(other)
        return members

    def become_the_mean_of(self, members: list["Member"]) -> None:
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                weight.copy_(torch.stack([each.model.get_parameter(name) for each in members]).mean(0))

    def values(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach() for name, weight in self.model.named_parameters()}


def apart(trainer: PopulationTrainer, members: list[Member]) -> float:
    """The largest difference between a trainer's members and plain ones."""
    assert trainer.population.size == len(members)
    return max(
        float((value - trainer.population.member(at)[name]).abs().max())
        for at, member in enumerate(members)
        for name, value in member.values().items()
    )


class At(TrainerCallback):
    """Calls a function after some steps."""

    def __init__(self, steps, function):
        self.steps, self.function = steps, function

    def on_step_end(self, args, state, control, **_):
        if state.global_step in self.steps:
            self.function(state.global_step, control)
