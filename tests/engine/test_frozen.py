"""Frozen weights under autocast: cast once, with the same numbers to the bit."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deni.engine.frozen import CastOnce
from deni.population import Population
from deni.randomness import Sources

HALF = partial(torch.autocast, "cpu", torch.bfloat16)


def adapted(tiny, architecture):
    """A model whose output layer and biases train."""
    model = tiny(architecture)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith("bias") or name.startswith(("classifier", "score"))
    return model


def steps_of(model, batch, engine, members):
    """Logits and gradients of two training steps in bfloat16, with dropout."""
    population = Population(model.float(), [Sources(3)], engine)
    population.module.train()
    population.fork(members)
    data, found = batch(), []
    labels = data.pop("labels")
    for _ in range(2):
        population.module.zero_grad()
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            with HALF():
                out = population.module(**population.module.fold(data))["logits"]
            F.cross_entropy(out.float(), labels.repeat(len(chunk))).backward()
            found.append(out.detach())
        population.module.collect()
        found += [view.grad.clone() for views in population.views.values() for view in views]
    return found


@pytest.mark.parametrize("engine", ["loop", "stacked"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_numbers_are_the_same_to_the_bit(tiny, batch, monkeypatch, architecture, engine):
    once = steps_of(adapted(tiny, architecture), batch, engine, 2)
    monkeypatch.setattr(CastOnce, "cast", lambda self, value: value)
    always = steps_of(adapted(tiny, architecture), batch, engine, 2)
    assert all(map(torch.equal, once, always))


@pytest.fixture
def layer():
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad = False
    return layer


def cast_of(mode, layer, lower=torch.bfloat16):
    """The weight that a product inside gets."""
    with torch.autocast("cpu", lower):
        return mode.cast(layer.weight)


def test_a_frozen_weight_is_cast_once(layer):
    mode = CastOnce()
    first = cast_of(mode, layer)
    assert first.dtype == torch.bfloat16
    assert cast_of(mode, layer) is first


@pytest.mark.parametrize("change", ["in_place", "other_type", "forgotten"])
def test_a_changed_weight_is_cast_again(layer, change):
    mode, lower = CastOnce(), torch.bfloat16
    first = cast_of(mode, layer)
    if change == "in_place":
        with torch.no_grad():
            layer.weight.mul_(2)
    elif change == "other_type":
        lower = torch.float16
    else:
        layer.weight.data.mul_(2)
        mode.forget()
    assert cast_of(mode, layer, lower) is not first
    assert torch.equal(cast_of(mode, layer, lower), layer.weight.to(lower))


def test_what_trains_and_what_is_not_under_autocast_stays(layer):
    mode = CastOnce()
    assert mode.cast(layer.weight) is layer.weight
    with HALF():
        assert mode.cast(layer.bias) is layer.bias
        assert mode.cast(rows := torch.ones(2, 4)) is rows


def test_evaluation_forgets(tiny):
    population = Population(tiny("bert").float(), [Sources(0)])
    population.module.train()
    population.module._cast_once._kept[0] = (torch.ones(1), 0, torch.ones(1))
    population.module.train()
    assert population.module._cast_once._kept
    population.module.eval()
    assert not population.module._cast_once._kept
