"""Architectures beside those of test_equality.py: exact where they are stacked, in the loop where they cannot be."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from deni.engine.dropout import MemberDropout, Streams
from deni.engine.probe import why_not_stacked
from deni.models.architectures import LAYER, head_dropout_key, head_names, pooled_path, set_head_dropout
from deni.noise import Noise
from deni.population import Population
from deni.randomness import Sources, global_generators
from deni.schedule import Fork
from deni.tuning import make_tuning
from tests.helpers.tiny import SMALL

# What a model's reason for the loop names; every other one is stacked.
REASONS = {
    # Relative positions are the same for all rows, and pass through layers without a batch.
    ("mpnet", "full"): "mpnet.encoder.relative_attention_bias got (7, 7), not 3*5 rows",
    (
        "deberta",
        "full",
    ): "attention.self (DisentangledSelfAttention) has its own parameters around trainable layers",
    ("deberta", "lora"): "dropout on (80, 32): dim 0 does not divide by 3 members",
    ("deberta-v2", "full"): "attention.self.pos_key_proj got (1, 3, 16, 32), not 3*5 rows",
    ("deberta-v2", "lora"): "dropout on (16, 32): dim 0 does not divide by 3 members",
    # OPT flattens rows and tokens in front of a LayerNorm.
    ("opt", "full"): "final_layer_norm got (105, 32), not 3*5 rows",
    ("opt", "lora"): "final_layer_norm got (105, 32), not 3*5 rows",
}
CASES = [(architecture, tuning) for architecture in SMALL for tuning in ("full", "lora")]
DECODERS = ("gpt2", "gpt_neox", "llama", "mistral", "gemma", "qwen2", "qwen3")
STACKED = [case for case in CASES if case not in REASONS]
MEMBERS, STEPS = 3, 2
HOW = Fork(noise=Noise(variance=0.1, scope="trainable", floor=0.01))


def tuned(tiny, architecture, tuning, **settings):
    settings |= {"lora_r": 4, "lora_alpha": 4} if tuning == "lora" else {}
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
    population.module.train()
    population.fork(MEMBERS, HOW)
    starts = [{n: v.clone() for n, v in population.member(member).items()} for member in range(MEMBERS)]
    optimizer = adam([view for views in population.views.values() for view in views])
    for data in batches:
        population.module.zero_grad()
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            logits = population.module(**population.module.fold(inputs_of(data))).logits
            losses = F.cross_entropy(logits, data["labels"].repeat(len(chunk)), reduction="none")
            losses.unflatten(0, (len(chunk), -1)).mean(1).sum().backward()
        population.module.collect()
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


class Double(TorchFunctionMode):
    """Keeps float64 where a model's code asks for float32, as RMSNorm and rotary positions do."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            return args[0].double()
        if func is torch.Tensor.to and args[0].dtype == torch.float64 and torch.float32 in args[1:]:
            return args[0]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_probe_stacks_a_model_or_says_in_one_line_why_not(tiny, batch, case):
    why = why_not_stacked(tuned(tiny, *case), inputs_of(batch()), {"input_ids": 1})
    assert bool(why) == (case in REASONS), why
    assert REASONS.get(case, "") in why
    assert "\n" not in why


@pytest.mark.parametrize("case", STACKED, ids="-".join)
def test_where_it_is_stacked_members_equal_models_trained_alone(tiny, batch, case):
    batches = [batch(seed=at, tokens=7 + at) for at in range(STEPS)]
    with Double():
        assert largest_difference(tuned(tiny, *case), batches, "stacked") < 1e-9


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_decoders_padded_on_the_left_equal_models_trained_alone(tiny, batch, architecture, tuning):
    model = tuned(tiny, architecture, tuning)
    batches = [batch(seed=at, tokens=7 + at, side="left") for at in range(STEPS)]
    assert why_not_stacked(model, inputs_of(batches[0]), {"input_ids": 1}) == ""
    with Double():
        assert largest_difference(model, batches, "stacked") < 1e-9


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_in_the_loop_members_equal_models_trained_alone(tiny, batch, case):
    batches = [batch(seed=at, tokens=7 + at) for at in range(STEPS)]
    assert largest_difference(tuned(tiny, *case), batches, "loop") < 1e-12


def test_a_table_of_relative_positions_that_divides_by_the_members_is_not_mixed(tiny, batch, monkeypatch):
    family, sizes = SMALL["deberta-v2"]
    monkeypatch.setitem(SMALL, "deberta-v2", (family, {**sizes, "position_buckets": 9}))  # 18 rows for 3 members
    model = tuned(tiny, "deberta-v2", "lora", lora_bias="none")  # the layers of the table stay frozen
    assert "differ from the loop's" in why_not_stacked(model, inputs_of(batch()), {"input_ids": 1})


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("architecture", DECODERS)
def test_a_decoder_without_a_padding_token_fails_alone_and_folded(tiny, batch, architecture, side):
    model = tiny(architecture)
    model.config.pad_token_id = None
    if hasattr(model.config, "get_text_config"):
        model.config.get_text_config().pad_token_id = None
    with pytest.raises(ValueError, match="padding token"):
        model(**inputs_of(batch(side=side)))
    assert "padding token" in why_not_stacked(model, inputs_of(batch(side=side)))


@pytest.mark.parametrize("architecture", SMALL)
def test_lora_finds_its_layers_in_every_encoder_layer(tiny, architecture):
    model = tuned(tiny, architecture, "lora")
    names = [name for name, p in model.named_parameters() if p.requires_grad and "lora_A" in name]
    layers = 1 if architecture == "albert" else 2  # shared layers
    assert len({LAYER.search(name).group() for name in names}) == layers


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_head_is_the_layer_with_one_row_for_each_class(tiny, case):
    model = tuned(tiny, *case)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = head_names(model, list(parameters))
    assert head
    assert all(parameters[name].shape[0] == 3 for name in head)


@pytest.mark.parametrize("architecture", SMALL)
def test_what_pools_is_outside_of_the_layers(tiny, architecture):
    assert not LAYER.search(pooled_path(tiny(architecture)))


@pytest.mark.parametrize("architecture", SMALL)
def test_dropout_in_front_of_the_head_arrives_or_is_refused(tiny, architecture):
    config = copy.deepcopy(tiny(architecture).config)
    if head_dropout_key(config) is None:
        with pytest.raises(ValueError, match="no dropout in front"):
            set_head_dropout(config, 0.37)
        return
    set_head_dropout(config, 0.37)
    model = AutoModelForSequenceClassification.from_config(config)
    rates = [m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout) and not LAYER.search(name)]
    assert 0.37 in rates


TOKENS = [architecture for architecture in SMALL if architecture != "opt"]  # which has no model for tokens


@pytest.mark.parametrize("architecture", TOKENS)
def test_dropout_in_front_of_the_head_for_tokens_arrives_or_is_refused(tiny, architecture):
    config = copy.deepcopy(tiny(architecture).config)
    if head_dropout_key(config, tokens=True) is None:
        with pytest.raises(ValueError, match="no dropout in front"):
            set_head_dropout(config, 0.37, tokens=True)
        return
    set_head_dropout(config, 0.37, tokens=True)
    model = AutoModelForTokenClassification.from_config(config)
    rates = {name: m.p for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert [name for name, rate in rates.items() if rate == 0.37] == [pooled_path(model)]


@pytest.mark.parametrize("tuning", ["full", "lora", "ia3"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "electra", "modernbert", "gpt2", "llama"])
def test_the_head_for_tokens_is_the_layer_with_one_row_for_each_class(tiny, architecture, tuning):
    model = make_tuning(tuning, **({"lora_r": 4} if tuning == "lora" else {})).apply(tiny(architecture, task="Token"))
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    head = head_names(model, list(parameters))
    assert head
    assert all(parameters[name].shape[0] == 3 for name in head)
