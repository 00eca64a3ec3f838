"""A run in a pack computes what it computes alone: other rows, other lengths, dropout on."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from torch import nn
from transformers import BertConfig, BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from deni.engine.probe import why_not_stacked
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.schedule import Fork
from deni.training.batches import LENGTHS, PackedCollator

SEEDS, LENGTH_OF = (3, 4, 5), (7, 11, 5)
MEMBERS, ROWS = 2, 4
HOW = Fork(noise=Noise(variance=0.1, scope="trainable", floor=0.01))


def rows_of(batch, run, left=False):
    """The batch of a run as its own collator gives it."""
    rows = batch(rows=ROWS, tokens=LENGTH_OF[run], seed=run)
    if left:
        for row, mask in enumerate(rows["attention_mask"]):
            padding = int((mask == 0).sum())
            rows["input_ids"][row] = rows["input_ids"][row].roll(padding)
            rows["attention_mask"][row] = mask.roll(padding)
    return rows


def packed(batch, left=False):
    """The rows of all runs, padded to the longest; each run collates rows that are as long as its own batch."""
    runs = [rows_of(batch, run, left) for run in range(len(SEEDS))]
    features = [[(run, row) for run in range(len(SEEDS))] for row in range(ROWS)]

    def collate(given):
        run = given[0][0]
        assert given == [(run, row) for row in range(ROWS)]
        return runs[run]

    return PackedCollator(collate, {"input_ids": 1}, "left" if left else "right")(features)


def backward(population, data, lengths=None, side="right"):
    """Logits `(M, B, C)` and the gradients of each member, name by name."""
    inputs = {key: value for key, value in data.items() if key not in ("labels", LENGTHS)}
    logits = []
    population.module.zero_grad()
    for chunk in population.module.chunks:
        population.module.focus(chunk)
        groups = 1 if lengths is None else len(lengths)
        own = population.module.fold(inputs, groups)
        labels = population.module.fold({"labels": data["labels"]}, groups)["labels"]
        out = population.module(lengths=lengths, padding_side=side, **own).logits
        F.cross_entropy(out, labels, reduction="sum").backward()
        logits.append(out.detach().unflatten(0, (len(chunk), ROWS)))
    population.module.collect()
    return torch.cat(logits), {name: [view.grad for view in views] for name, views in population.views.items()}


def population_of(models, seeds, engine, at_a_time=None):
    trainable = [{n: p.detach() for n, p in model.named_parameters() if p.requires_grad} for model in models[1:]]
    population = Population(models[0], [Sources(seed) for seed in seeds], engine, trainable, at_a_time)
    population.module.train()
    return population


def largest_difference(batch, make, engine="stacked", side="right", at_a_time=None):
    """Of logits and gradients, over all runs: a step with one member each, a fork, another step."""
    left = side == "left"
    data = packed(batch, left)
    lengths = data[LENGTHS].tolist()
    assert lengths == list(LENGTH_OF)
    assert data["input_ids"].shape == (len(SEEDS) * ROWS, max(LENGTH_OF))
    pack = population_of([make(seed=seed) for seed in SEEDS], SEEDS, engine, at_a_time)
    backward(pack, data, lengths, side)  # the streams go on from one step to the next
    pack.fork(MEMBERS, HOW)
    logits, gradients = backward(pack, data, lengths, side)
    differences = []
    for run, seed in enumerate(SEEDS):
        alone = population_of([make(seed=seed)], [seed], engine)
        own = rows_of(batch, run, left)
        backward(alone, own)
        alone.fork(MEMBERS, HOW)
        expected, theirs = backward(alone, own)
        part = slice(run * MEMBERS, (run + 1) * MEMBERS)
        differences.append(float((logits[part] - expected).abs().max()))
        assert differences[-1] < float(expected.std())
        for name, grads in theirs.items():
            differences += [float((a - b).abs().max()) for a, b in zip(gradients[name][part], grads, strict=True)]
    return max(differences)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_a_run_of_a_pack_computes_what_it_computes_alone(tiny, batch, architecture, engine, attention):
    assert largest_difference(batch, partial(tiny, architecture, attention=attention), engine) < 1e-12


@pytest.mark.parametrize("architecture", ["albert", "distilbert", "electra", "modernbert", "gpt2"])
def test_so_it_does_in_other_architectures_that_stack(tiny, batch, architecture):
    assert largest_difference(batch, partial(tiny, architecture)) < 1e-12


@pytest.mark.parametrize("architecture", ["mpnet", "deberta-v2"])
def test_so_it_does_in_the_loop_where_a_model_does_not_stack(tiny, batch, architecture):
    assert largest_difference(batch, partial(tiny, architecture, attention="eager"), "loop") < 1e-12


@pytest.mark.parametrize("at_a_time", [1, 2, 4])
def test_so_it_does_some_members_at_a_time(tiny, batch, at_a_time):
    assert largest_difference(batch, partial(tiny, "bert"), at_a_time=at_a_time) < 1e-12


class Causal(nn.Module):
    """Reads the last token and knows no absolute positions, so that padding on the left changes nothing."""

    def __init__(self, seed):
        super().__init__()
        with global_generators(seed):
            self.embedding, self.dropout = nn.Embedding(60, 8), nn.Dropout(0.2)
            self.qkv, self.score = nn.Linear(8, 24), nn.Linear(8, 3)
        self.double()

    def forward(self, input_ids, attention_mask):
        h = self.dropout(self.embedding(input_ids))  # (B, T, D)
        q, k, v = self.qkv(h).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)  # (B, heads, T, D/heads)
        tokens = input_ids.shape[1]
        allowed = torch.ones(tokens, tokens, dtype=torch.bool).tril() & attention_mask[:, None, None, :].bool()
        h = F.scaled_dot_product_attention(q, k, v, allowed, dropout_p=0.2 if self.training else 0.0)
        return SequenceClassifierOutput(logits=self.score(self.dropout(h.transpose(1, 2).flatten(2)))[:, -1])


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_so_it_does_with_padding_on_the_left(batch, engine):
    assert largest_difference(batch, Causal, engine, side="left") < 1e-12


# ---- tunings, and sizes that coincide --------------------------------------------------------------------------------

VIRTUAL = max(LENGTH_OF)  # as many virtual tokens as tokens, heads and features
PEFT = {
    "lora": lambda: LoraConfig(task_type="SEQ_CLS", r=2, lora_alpha=2, lora_dropout=0.2, bias="all"),
    "ia3": lambda: IA3Config(task_type="SEQ_CLS"),
    "prompt": lambda: PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=VIRTUAL),
    "prefix": lambda: PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=VIRTUAL),
    "p-tuning": lambda: PromptEncoderConfig(task_type="SEQ_CLS", num_virtual_tokens=VIRTUAL, encoder_hidden_size=11),
}
COINCIDE = {"hidden_size": 11, "num_attention_heads": 11, "intermediate_size": 22, "num_hidden_layers": 2}


def coinciding(tuning, seed, dropout=0.2, attention="sdpa"):
    """A BERT with as many heads and features as tokens; what a tuning adds is drawn from the seed."""
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = BertConfig(vocab_size=60, max_position_embeddings=40, num_labels=3, **COINCIDE, **rates)
    config._attn_implementation = attention
    with global_generators(0 if tuning != "full" else seed):
        model = BertForSequenceClassification(config)
    if tuning != "full":
        with global_generators(seed):
            model = get_peft_model(model, PEFT[tuning]())
    return model.double()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize(("engine", "attention"), [("loop", "eager"), ("loop", "sdpa"), ("stacked", "sdpa")])
@pytest.mark.parametrize("tuning", ["full", *PEFT])
def test_so_it_does_with_every_tuning_where_sizes_coincide(batch, tuning, engine, attention, dropout):
    make = partial(coinciding, tuning, dropout=dropout, attention=attention)
    inputs = {key: value for key, value in batch(rows=ROWS).items() if key != "labels"}
    if engine == "stacked" and why_not_stacked(make(seed=0), inputs):
        engine = "loop"
    assert largest_difference(batch, make, engine) < 1e-12


def test_activation_checkpointing_draws_the_masks_of_virtual_tokens_again(batch):
    def make(seed, checkpointing):
        model = coinciding("prompt", seed)
        if checkpointing:
            model.gradient_checkpointing_enable()
        return model

    data, results = packed(batch), []
    for checkpointing in (False, True):
        population = population_of([make(seed, checkpointing) for seed in SEEDS], SEEDS, "stacked")
        results.append(backward(population, data, data[LENGTHS].tolist()))
    assert torch.equal(results[0][0], results[1][0])
    for name, gradients in results[0][1].items():
        assert all(torch.allclose(*pair, atol=1e-13) for pair in zip(gradients, results[1][1][name], strict=True))
