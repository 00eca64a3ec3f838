"""Architectures beside those of test_equality.py: exact where they are stacked, in the loop where they cannot be."""

import copy

import pytest
import torch
import torch.nn.functional as F

from deni.engine.dropout import MemberDropout, Streams
from deni.engine.probe import why_not_stacked
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.schedule import Fork
from deni.tuning import make_tuning

# What a model's reason for the loop names; empty where it is stacked.
REASONS = {
    ("electra", "full"): "",
    ("electra", "lora"): "",
    ("modernbert", "full"): "",
    ("gpt2", "full"): "",
    ("gpt2", "lora"): "",
    ("xlm-roberta", "full"): "",
    ("xlm-roberta", "lora"): "",
    # Relative positions are the same for all rows, and pass through layers without a batch.
    ("mpnet", "full"): "mpnet.encoder.relative_attention_bias got (7, 7), not 3*5 rows",
    ("deberta-v2", "full"): "attention.self.pos_key_proj got (1, 3, 16, 32), not 3*5 rows",
    ("deberta-v2", "lora"): "dropout on (16, 32): dim 0 does not divide by 3 members",
}
STACKED = [case for case, reason in REASONS.items() if not reason]
MEMBERS, STEPS = 3, 2
HOW = Fork(variance=0.1, scope="trainable", floor=0.01)


def tuned(tiny, architecture, tuning):
    settings = {"lora_r": 4, "lora_alpha": 4} if tuning == "lora" else {}
    model = tiny(architecture)
    with global_generators(1):
        return make_tuning(tuning, **settings).apply(model).to(torch.float64).train()


def inputs_of(data):
    return {key: value for key, value in data.items() if key != "labels"}


def adam(parameters):
    return torch.optim.Adam(parameters, lr=3e-3, eps=1e-6)


def by_hand(model, start, dropout, batches):
    """A copy of the model that starts with these values, after plain PyTorch's steps."""
    model = copy.deepcopy(model)
    model.load_state_dict(start, strict=False)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = adam(parameters.values())
    for data in batches:
        optimizer.zero_grad()
        with MemberDropout(Streams([dropout])):
            F.cross_entropy(model(**inputs_of(data)).logits, data["labels"]).backward()
        optimizer.step()
    return {name: p.detach() for name, p in parameters.items()}


def largest_difference(model, batches, engine):
    """Between the members after some steps and the models that plain PyTorch trains from the same starts."""
    sources = Sources(7)
    population = Population(copy.deepcopy(model), [sources], engine)
    population.train()
    population.fork(MEMBERS, HOW)
    starts = [{n: v.clone() for n, v in population.member(member).items()} for member in range(MEMBERS)]
    optimizer = adam([view for views in population.views.values() for view in views])
    for data in batches:
        population.zero_grad()
        for chunk in population.chunks:
            population.focus(chunk)
            logits = population(**population.fold(inputs_of(data))).logits
            losses = F.cross_entropy(logits, data["labels"].repeat(len(chunk)), reduction="none")
            losses.unflatten(0, (len(chunk), -1)).mean(1).sum().backward()
        population.collect()
        optimizer.step()
    again = Sources(7)
    streams = [again["dropout"], *(again.derived("dropout", "fork", 1, copied) for copied in range(1, MEMBERS))]
    off = moved = 0.0
    for member, (start, stream) in enumerate(zip(starts, streams, strict=True)):
        ours, theirs = population.member(member), by_hand(model, start, stream, batches)
        assert ours.keys() == theirs.keys()
        off = max(off, *(float((ours[name] - theirs[name]).abs().max()) for name in ours))
        moved = max(moved, *(float((theirs[name] - start[name]).abs().max()) for name in ours))
    assert moved > 1e-3
    return off


@pytest.mark.parametrize("case", REASONS, ids="-".join)
def test_the_probe_stacks_a_model_or_says_in_one_line_why_not(tiny, batch, case):
    why = why_not_stacked(tuned(tiny, *case), inputs_of(batch()), {"input_ids": 1})
    assert bool(why) == bool(REASONS[case])
    assert REASONS[case] in why
    assert "\n" not in why


@pytest.mark.parametrize("case", STACKED, ids="-".join)
def test_where_it_is_stacked_members_equal_models_trained_alone(tiny, batch, case):
    batches = [batch(seed=at, tokens=7 + at) for at in range(STEPS)]
    assert largest_difference(tuned(tiny, *case), batches, "stacked") < 1e-9


@pytest.mark.parametrize("case", REASONS, ids="-".join)
def test_in_the_loop_members_equal_models_trained_alone(tiny, batch, case):
    batches = [batch(seed=at, tokens=7 + at) for at in range(STEPS)]
    assert largest_difference(tuned(tiny, *case), batches, "loop") < 1e-12
