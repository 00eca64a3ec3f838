"""A run in a pack computes what it computes alone: other rows, other lengths, dropout on."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

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
