"""Plain fine-tuning in PyTorch, which strategies are compared with, and trainers of the same run."""

import random

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import LambdaLR
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback, TrainingArguments

from deni.engine.dropout import MemberDropout, Streams
from deni.randomness import Sources, global_generators
from deni.training.trainer import PopulationTrainer
from deni.tuning import Lora

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "num_labels": 3,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RATE, SEED, STEPS = 1e-3, 42, 20  # of `make` and `fine_tune`: 40 rows, batches of 4, 2 epochs


def bert(seed=0, **config):
    """A tiny BERT; a seed of None draws from the global generators, as `model_init` of a user does."""
    if seed is None:
        return BertForSequenceClassification(BertConfig(**{**SIZES, **config})).double()
    with global_generators(seed):
        return BertForSequenceClassification(BertConfig(**{**SIZES, **config})).double()


def lora(seed=0):
    with global_generators(seed):
        return Lora(lora_r=4, lora_alpha=4).apply(bert(seed))


def rows(count=40, seed=1):
    draw = random.Random(seed)
    return [{"input_ids": [draw.randrange(1, 60) for _ in range(9)], "labels": draw.randrange(3)} for _ in range(count)]


def tensors(data):
    return torch.tensor([row["input_ids"] for row in data]), torch.tensor([row["labels"] for row in data])


def make(tmp_path, strategy=None, *, model=None, model_init=None, train=None, args=None, **options):
    settings = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "learning_rate": RATE,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": True,
        "max_grad_norm": 0.0,
        "logging_steps": 1000,
        **(args or {}),
    }
    if model is None and model_init is None:
        model = bert()
    return PopulationTrainer(
        model,
        TrainingArguments(str(tmp_path / "out"), **settings),
        strategy=strategy,
        model_init=model_init,
        train_dataset=rows() if train is None else train,
        **options,
    )


def trained(tmp_path, strategy=None, **options):
    trainer = make(tmp_path, strategy, **options)
    trainer.train()
    return trainer


def values(trainer):
    """Of all members, `(M, *shape)`, with whole embeddings."""
    members = [trainer.population.member(at) for at in range(trainer.population.size)]
    return {name: torch.stack([each[name].detach() for each in members]) for name in members[0]}


def parameters(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def mean(recorded):
    return {name: torch.stack([each[name] for each in recorded]).mean(0) for name in recorded[0]}


def distance(a, b):
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def predictions(values, data):
    """Log probabilities of a plain BERT with these parameters, without dropout."""
    model = bert().eval()
    with torch.no_grad():
        return torch.func.functional_call(model, values, tensors(data)[:1]).logits.log_softmax(-1)


class Watch(TrainerCallback):
    """Keeps the parameters of member 0 before each step, its gradients, its parameters after the optimiser's step, and
    the learning rate of each parameter."""

    def __init__(self):
        self.before, self.gradients, self.after, self.rates, self.decays = [], [], [], [], []

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **_):
        inner = getattr(optimizer, "optimizer", optimizer)

        def before_step(optimizer, *_):
            groups = {id(each): group for group in optimizer.param_groups for each in group["params"]}
            own = {name: groups[id(views[0])] for name, views in model.views.items()}
            self.rates.append({name: float(group["lr"]) for name, group in own.items()})
            self.decays.append({name: group["weight_decay"] for name, group in own.items()})
            self.gradients.append(
                {name: views[0].grad.clone() for name, views in model.views.items() if views[0].grad is not None}
            )

        inner.register_step_pre_hook(before_step)

    def on_step_begin(self, args, state, control, model=None, **_):
        self.before.append({name: value.detach().clone() for name, value in model.member(0).items()})

    def on_step_end(self, args, state, control, model=None, **_):
        self.after.append({name: value.detach().clone() for name, value in model.member(0).items()})


def logits_of(model, ids, step):
    return model(input_ids=ids).logits


def fine_tune(
    model,
    *,
    data=None,
    seed=SEED,
    epochs=2,
    weight_decay=0.0,
    groups=None,
    factor=None,
    forward=logits_of,
    objective=F.cross_entropy,
    gradients=None,
    after=None,
):
    """Train in place with AdamW in batches of 4 and return the parameters.

    Args:
        groups: parameter groups of the optimiser; default: one.
        factor: of the learning rate at a step; default: linear decay to 0.
        forward: (model, ids, step) -> logits, or whatever the objective takes.
        objective: (logits, labels) -> loss.
        gradients: (model, step), called when the gradients are there.
        after: (model, steps done), called after the optimiser's step.
    """
    model.train()
    data, sources = rows() if data is None else data, Sources(seed)
    steps = epochs * len(data) // 4
    optimizer = torch.optim.AdamW(groups or model.parameters(), lr=RATE, weight_decay=weight_decay)
    schedule = LambdaLR(optimizer, factor or (lambda step: 1 - step / steps))
    step = 0
    for epoch in range(epochs):
        order = torch.randperm(len(data), generator=sources.derived("sample_order", epoch)).tolist()
        for at in range(0, len(data), 4):
            ids, labels = tensors([data[row] for row in order[at : at + 4]])
            with MemberDropout(Streams([sources["dropout"]])):
                logits = forward(model, ids, step)
            objective(logits, labels).backward()
            if gradients:
                gradients(model, step)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if after:
                after(model, step)
    return parameters(model)


def decayed(model, weight_decay):
    """Two groups as transformers makes them: no decay of biases and LayerNorm."""
    plain = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm" in n]
    rest = [p for n, p in model.named_parameters() if not ("bias" in n or "LayerNorm" in n)]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


HELD_OUT = rows(7, seed=5)


class Asks(TrainerCallback):
    """Lets the trainer predict before some steps, twice."""

    def __init__(self, steps):
        self.steps, self.trainer, self.seen = steps, None, {}

    def on_step_begin(self, args, state, control, **_):
        if state.global_step in self.steps:
            self.seen[state.global_step] = [self.trainer.predict(HELD_OUT).predictions for _ in range(2)]


def with_questions(tmp_path, strategy, steps, **options):
    watch, asks = Watch(), Asks(steps)
    trainer = make(tmp_path, strategy, callbacks=[watch, asks], **options)
    asks.trainer = trainer
    trainer.train()
    return trainer, watch, asks
