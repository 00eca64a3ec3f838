"""K stacked members equal K models that plain PyTorch trains one by one, in float64 and with dropout on."""

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

from deni.engine.dropout import MemberDropout, Streams
from deni.engine.optimizer import MemberOptimizer
from deni.engine.probe import why_not_stacked
from deni.noise import Noise, add_
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.schedule import Fork
from deni.tasks import TASKS
from deni.tuning import make_tuning
from tests.helpers.tiny import SMALL_TUNINGS, needs_adapters

ARCHITECTURES = ("bert", "roberta", "albert", "distilbert")
# Adam divides a gradient that is zero but for rounding (the keys' bias) by its own size, so eps is raised.
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=3e-3, eps=1e-6),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=3e-3, eps=1e-6, weight_decay=0.1),
}
HOW = Fork(noise=Noise(variance=0.1, scope="trainable", floor=0.01))
MEMBERS = 3
UNIPELT = pytest.param("unipelt", marks=needs_adapters)


def tuned(model, tuning):
    with global_generators(5):
        made = make_tuning(tuning, **SMALL_TUNINGS.get(tuning, {})).apply(model)
    return made.to(torch.float64).train()


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


# ---- plain PyTorch: one model after another --------------------------------------------------------------------------


@dataclass
class Plain:
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    dropout: torch.Generator

    def step(self, micro_batches):
        self.optimizer.zero_grad()
        for batch in micro_batches:
            inputs = {key: value for key, value in batch.items() if key != "labels"}
            with MemberDropout(Streams([self.dropout])):
                logits = self.model(**inputs).logits
            (F.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten()) / len(micro_batches)).backward()
        self.optimizer.step()


def plain_fork(parent, sources, make, number):
    members = [parent]
    for at in range(1, MEMBERS):
        model = copy.deepcopy(parent.model)
        add_(trainable(model).values(), HOW.noise, sources["noise"])
        optimizer = make(trainable(model).values())
        optimizer.load_state_dict(copy.deepcopy(parent.optimizer.state_dict()))
        members.append(Plain(model, optimizer, sources.derived("dropout", "fork", number, at)))
    return members


def plain_merge(members):
    with torch.no_grad():
        for name, p in trainable(members[0].model).items():
            p.copy_(torch.stack([trainable(each.model)[name] for each in members]).mean(0))
    return members[:1]


def by_hand(model, make, phases, batches):
    model = copy.deepcopy(model)
    sources = Sources(7)
    members = [Plain(model, make(trainable(model).values()), sources["dropout"])]
    batches, forks = iter(batches), 0
    for phase in phases:
        if phase == "fork":
            forks += 1
            members = plain_fork(members[0], sources, make, forks)
        elif phase == "merge":
            members = plain_merge(members)
        else:
            micro = next(batches)
            for member in members:
                member.step(micro)
    return [trainable(member.model) for member in members]


# ---- the population --------------------------------------------------------------------------------------------------


def with_population(model, make, phases, batches, **options):
    population = Population(copy.deepcopy(model), [Sources(7)], **options)
    population.module.train()
    with population.plain() as plain:
        parameters = trainable(plain)
    optimizer = make(parameters.values())
    pointed = MemberOptimizer(optimizer, {id(p): name for name, p in parameters.items()})
    batches = iter(batches)
    for phase in phases:
        if phase == "fork":
            population.fork(MEMBERS, HOW)
            pointed.point(population.views, population.members, HOW)
        elif phase == "merge":
            population.merge()
            pointed.point(population.views, 1)
        else:
            step(population, optimizer, next(batches))
        pointed.check()
    return [population.member(member) for member in range(population.size)], population


def step(population, optimizer, micro_batches):
    population.module.zero_grad()
    for batch in micro_batches:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            logits = population.module(**population.module.fold(inputs)).logits
            labels = torch.cat([batch["labels"]] * len(chunk))
            losses = TASKS["single_label"].member_losses(logits, labels, len(chunk))
            (losses.sum() / len(micro_batches)).backward()
    population.module.collect()
    optimizer.step()


def largest_difference(ours, theirs):
    assert len(ours) == len(theirs)
    pairs = [(a[name], b[name].detach()) for a, b in zip(ours, theirs, strict=True) for name in b]
    return max(float((a - b).abs().max()) for a, b in pairs)


SINGLE = ("step", "step")
FORKED = ("step", "fork", "step", "step")
WHOLE = ("step", "step", "fork", "step", "step", "merge", "step", "fork", "step", "step")
TOLERANCE = 1e-9


def batches_of(make, steps, micro=1, **options):
    return [[make(seed=10 * at + each, tokens=7 + at % 2, **options) for each in range(micro)] for at in range(steps)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tuning", ["full", "lora", "ia3", "prompt", UNIPELT])
def test_stacked_members_equal_models_trained_alone(tiny, batch, tuning, architecture, optimizer):
    model = tuned(tiny(architecture), tuning)
    batches, make = batches_of(batch, 8), OPTIMIZERS[optimizer]
    alone = by_hand(model, make, WHOLE, batches)
    together, _ = with_population(model, make, WHOLE, batches)
    assert largest_difference(together, alone) < TOLERANCE
    assert largest_difference(together[1:2], alone[:1]) > 1e-3  # the members are not one


@pytest.mark.parametrize("phases", [SINGLE, FORKED])
@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_both_engines_equal_models_trained_alone(tiny, batch, architecture, attention, engine, phases):
    model = tuned(tiny(architecture, attention=attention), "full")
    batches, make = batches_of(batch, 3), OPTIMIZERS["adam"]
    alone = by_hand(model, make, phases, batches)
    together, _ = with_population(model, make, phases, batches, engine=engine)
    assert largest_difference(together, alone) < TOLERANCE


@pytest.mark.parametrize("tuning", ["full", "lora", "ia3", "prompt", UNIPELT])
def test_the_loop_equals_the_stack(tiny, batch, tuning):
    model = tuned(tiny("roberta"), tuning)
    batches, make = batches_of(batch, 8), OPTIMIZERS["adam"]
    loop, _ = with_population(model, make, WHOLE, batches, engine="loop")
    stack, _ = with_population(model, make, WHOLE, batches, engine="stacked")
    assert largest_difference(loop, stack) < TOLERANCE


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize(("size", "chunks"), [(1, [1, 1, 1]), (2, [2, 1])])
def test_members_in_passes_equal_all_at_once(tiny, batch, tuning, size, chunks):
    model = tuned(tiny("bert"), tuning)
    batches, make = batches_of(batch, 3), OPTIMIZERS["adam"]
    at_once, whole = with_population(model, make, FORKED, batches)
    in_passes, population = with_population(model, make, FORKED, batches, at_a_time=size)
    assert [len(chunk) for chunk in population.module.chunks] == chunks
    assert largest_difference(at_once, in_passes) < TOLERANCE
    for one, other in zip(whole.module.streams, population.module.streams, strict=True):  # dropout drew the same masks
        assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("options", [{}, {"at_a_time": 2}, {"engine": "loop"}])
def test_gradients_accumulate_over_micro_batches_as_in_plain_training(tiny, batch, options):
    model = tuned(tiny("bert"), "full")
    batches, make = batches_of(batch, 3, micro=2), OPTIMIZERS["adamw"]
    alone = by_hand(model, make, FORKED, batches)
    together, _ = with_population(model, make, FORKED, batches, **options)
    assert largest_difference(together, alone) < TOLERANCE


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("tuning", ["full", "lora", "ia3", UNIPELT])
def test_members_that_label_tokens_equal_models_trained_alone(tiny, batch, tuning, architecture):
    model = tuned(tiny(architecture, task="Token"), tuning)
    batches, make = batches_of(batch, 8, task="Token"), OPTIMIZERS["adam"]
    inputs = {key: value for key, value in batches[0][0].items() if key != "labels"}
    assert why_not_stacked(model, inputs, {"input_ids": 1}) == ""
    assert any("classifier" in name for name in trainable(model))
    alone = by_hand(model, make, WHOLE, batches)
    for engine in ("stacked", "loop"):
        together, _ = with_population(model, make, WHOLE, batches, engine=engine)
        assert largest_difference(together, alone) < TOLERANCE
    assert largest_difference(together[1:2], alone[:1]) > 1e-3  # the members are not one
