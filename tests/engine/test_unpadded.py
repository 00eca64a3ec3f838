"""Encoders that leave out padding give what they give with it: outputs and gradients, with the same dropout."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deni.engine.dropout import Streams
from deni.engine.unpadded import Layout, has_hooks, layers_of, padded_rows, skips_padding, text_tokens
from deni.models.pairs import encode_separately
from deni.models.pooling import Pooling, attach
from deni.population import Population
from deni.randomness import Sources, generator, global_generators
from deni.strategies.delayed_ensemble import DelayedEnsemble
from deni.tuning import make_tuning
from tests.helpers import plain
from tests.helpers.tiny import SMALL_TUNINGS, TRANSFORMERS_5, make_batch, make_tiny, needs_adapters

SEEDS, TOKENS = (3, 4, 5), (7, 12, 5)
# ELECTRA of transformers 4.57 has no scaled-dot-product attention.
FAMILIES = ["bert", "roberta", "albert", "distilbert", "xlm-roberta", "camembert", *(["electra"] * TRANSFORMERS_5)]
OTHERS = ["mpnet", "deberta", "deberta-v2", "modernbert", "gpt2", "llama"]
FILL = {"input_ids": 1, "labels": -100}


def tuned(architecture, tuning="full", task="Sequence", seed=0):
    model = make_tiny(architecture, seed=seed, task=task)
    with global_generators(seed):
        return make_tuning(tuning, **SMALL_TUNINGS.get(tuning, {})).apply(model).double().train()


def pack(task="Sequence"):
    """The rows of three runs whose longest texts have so many `TOKENS`, `(R*B, T)`."""
    runs = [make_batch(5, max(TOKENS), run, task=task) for run in range(len(TOKENS))]
    data = {key: torch.cat([each[key] for each in runs]) for key in runs[0]}
    lengths = torch.tensor([[tokens, 3, tokens // 2, 2, 4] for tokens in TOKENS]).view(-1, 1)
    real = torch.arange(max(TOKENS)) < lengths
    data["input_ids"] = torch.where(real, data["input_ids"].clamp(min=5), 1)
    data["attention_mask"] = real.long()
    if task == "Token":
        data["labels"] = torch.where(real, data["labels"], -100)
    return data


def population_of(make, engine="stacked", at_a_time=None, packed=False):
    models = [make(seed=seed) for seed in SEEDS]
    starts = [{n: p.detach() for n, p in model.named_parameters() if p.requires_grad} for model in models[1:]]
    population = Population(models[0], [Sources(seed) for seed in SEEDS], engine, starts, at_a_time)
    if packed:
        population.module.compute = population.module.predict = text_tokens
    return population


def computed(population, data, training=True):
    """Logits of tokens with labels, and gradients, of two steps: the streams go on from one to the next."""
    module, found = population.module.train(training), []
    for _ in range(2):
        module.zero_grad()
        predictions = []
        for chunk in module.chunks:
            module.focus(chunk)
            rows = module.fold(data, groups=len(SEEDS))
            labels = rows.pop("labels")
            logits = module(lengths=list(TOKENS), **rows)["logits"]
            F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum").backward()
            predictions.append(logits.detach()[labels != -100])
        module.collect()
        found.append(torch.cat(predictions))
        found += [view.grad.clone() for views in population.views.values() for view in views if view.grad is not None]
    return found


def distance(one, other):
    assert len(one) == len(other)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-9)) for a, b in zip(one, other, strict=True))


@pytest.fixture
def layouts(monkeypatch):
    """Notes the layout of each pass of an encoder, None where it has its padding."""
    found, make = [], Layout.of

    def of(mask, members):
        found.append(make(mask, members))
        return found[-1]

    monkeypatch.setattr(Layout, "of", of)
    return found


# ---- the layout ------------------------------------------------------------------------------------------------------


def test_tokens_are_laid_out_member_by_member_in_rows_of_the_average_length():
    real = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    layout = Layout.of(real[:, None, None].expand(-1, 1, 4, -1), members=2)
    assert (layout.rows, layout.tokens, layout.fewer) == (4, 4, 3)
    places = torch.arange(16).view(4, 4)
    packed = layout.pack(places.double()).long()
    assert packed.view(2, 6)[:, :4].tolist() == [[0, 4, 5, 6], [8, 9, 10, 11]]
    assert set(packed.view(2, 6)[:, 4:].flatten().tolist()) <= set(places[~real].tolist())  # left over: padding
    back = layout.pad(packed.double()).long()
    assert torch.equal(back[real], places[real])
    assert not set(back[~real].tolist()) & set(places[real].tolist())


def test_float_masks_are_read_as_attention_reads_them():
    real = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0]]).bool()[:, None, None]
    number = torch.zeros(real.shape).masked_fill(~real, torch.finfo(torch.float32).min)
    one, other = Layout.of(real, 1), Layout.of(number, 1)
    assert torch.equal(one.source, other.source)
    assert torch.equal(one.back, other.back)


@pytest.mark.parametrize("lengths", [[10, 10, 10], [10, 10, 5], [10, 9, 10]])
def test_little_padding_is_kept(lengths):
    real = torch.arange(10) < torch.tensor(lengths)[:, None]
    assert (Layout.of(real[:, None, None], 1) is None) == (sum(lengths) > 26)


def test_gradients_of_padding_are_zero():
    real = torch.arange(6) < torch.tensor([6, 2])[:, None]
    layout = Layout.of(real[:, None, None], 1)
    states = torch.rand(2, 6, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 6, 3, dtype=torch.float64) * real[..., None]
    (layout.pad(layout.pack(states) ** 2) * weights).sum().backward()
    assert torch.equal(states.grad, (2 * states * weights).detach())


# ---- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("engine", "at_a_time"), [("stacked", None), ("stacked", 2), ("loop", None)])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_pack_without_padding_is_that_with_padding(layouts, architecture, engine, at_a_time):
    make = partial(tuned, architecture)
    whole = computed(population_of(make, engine, at_a_time), pack())
    assert not layouts
    packed = computed(population_of(make, engine, at_a_time, packed=True), pack())
    assert any(layouts)
    assert distance(whole, packed) < 1e-9


@pytest.mark.parametrize("task", ["Sequence", "Token"])
@pytest.mark.parametrize("tuning", ["full", "lora", "ia3"])
def test_stacked_members_without_padding_are_those_of_the_loop_with_padding(layouts, tuning, task):
    make = partial(tuned, "bert", tuning, task)
    whole = computed(population_of(make, "loop"), pack(task))
    packed = computed(population_of(make, "stacked", packed=True), pack(task))
    assert any(layouts)
    assert distance(whole, packed) < 1e-9


def test_predictions_need_no_padding(layouts):
    make = partial(tuned, "bert")
    whole = computed(population_of(make), pack(), training=False)
    packed = computed(population_of(make, packed=True), pack(), training=False)
    assert any(layouts)
    assert distance(whole, packed) < 1e-9


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("task", ["Sequence", "Token"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_without_dropout_it_is_the_plain_model(layouts, architecture, task, side):
    """No code of ours computes the reference."""
    model = tuned(architecture, task=task)
    if task == "Sequence" and side == "left":
        attach(model, Pooling("mean"))  # others read the first place, which is padding
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    batch = make_batch(6, 13, 1, side=side, task=task)
    labels = batch.pop("labels")

    def of(output):
        F.cross_entropy(output.logits.flatten(0, -2), labels.flatten()).backward()
        found = [output.logits.detach()[labels != -100], *(p.grad for p in model.parameters() if p.grad is not None)]
        model.zero_grad()
        return found

    expected = of(model(**batch))
    assert distance(expected, of(text_tokens(model, batch, Streams([generator(0)])))) < 1e-9
    assert any(layouts)


def test_pairs_that_are_encoded_separately(layouts):
    def make(seed):
        with global_generators(seed):
            return attach(encode_separately(make_tiny("bert", seed=seed)), Pooling("mean")).double().train()

    one, other = pack(), make_batch(15, 12, 9)
    data = {key: torch.stack([one[key], other[key]], -1) if key != "labels" else one[key] for key in one}
    whole = computed(population_of(make), data)
    packed = computed(population_of(make, packed=True), data)
    assert len([each for each in layouts if each]) == 4  # two sides, two steps
    assert distance(whole, packed) < 1e-9


@pytest.mark.parametrize("engine", ["stacked", "loop"])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_activation_checkpointing_computes_the_same_again(layouts, tuning, engine):
    make = partial(tuned, "bert", tuning)
    whole = computed(population_of(make, engine), pack())
    population = population_of(make, engine, packed=True)
    population.module.gradient_checkpointing_enable()
    packed = computed(population, pack())
    assert any(layouts)
    assert distance(whole, packed) < 1e-9


def test_in_bfloat16_it_differs_by_rounding(layouts):
    def run(packed):
        population = population_of(partial(tuned, "bert", "lora"), packed=packed)
        population.module.float()
        with torch.autocast("cpu", torch.bfloat16):
            return computed(population, pack())

    whole, packed = run(False), run(True)
    assert any(layouts)
    scale = max(float(each.abs().max()) for each in whole)
    assert 0 <= max(float((a - b).abs().max()) for a, b in zip(whole, packed, strict=True)) < 2e-2 * scale


def test_a_hook_sees_the_padded_batch():
    population = population_of(partial(tuned, "bert"), packed=True)
    seen = set()
    layer = population.model.bert.encoder.layer[1].output
    handle = layer.register_forward_hook(lambda _, __, output: seen.add(tuple(output.shape)))
    computed(population, pack())
    handle.remove()
    assert seen == {(15, 12, 32), (15, 11, 32)}  # the latter before the first step, see `deni.engine.token_axes`
    assert not has_hooks(population.model)  # none of ours stays


def test_what_fails_leaves_no_hooks(layouts):
    population = population_of(partial(tuned, "mpnet"), "loop", packed=True)
    with pytest.raises(RuntimeError):
        computed(population, pack())
    assert any(layouts)
    assert not has_hooks(population.model)


# ---- whether it is exact ---------------------------------------------------------------------------------------------


def exact(model, side="right", task="Sequence"):
    batch = make_batch(5, 12, 2, side=side, task=task)
    batch.pop("labels")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found, everywhere = skips_padding(model, batch, FILL, side)
    assert everywhere == (found and task == "Sequence")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    return found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_families_that_skip_padding(architecture, dtype):
    assert exact(tuned(architecture).to(dtype))


@pytest.mark.parametrize("architecture", OTHERS)
def test_families_whose_attention_needs_places_keep_padding(architecture):
    assert not exact(tuned(architecture))


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [("lora", True), ("ia3", True), ("prompt", True), pytest.param("unipelt", False, marks=needs_adapters)],
)
def test_tunings(tuning, expected):
    """The gates of UniPELT see the padding."""
    assert exact(tuned("bert", tuning)) == expected


def test_heads_that_read_padding_keep_it():
    assert not exact(tuned("bert"), side="left")  # its pooler reads the first place
    assert exact(attach(tuned("bert"), Pooling("mean")), side="left")
    assert exact(tuned("bert", task="Token"), task="Token")


def test_eager_attention_and_hidden_states_keep_padding():
    assert not exact(make_tiny("bert", attention="eager"))
    model = tuned("bert")
    model.config.output_hidden_states = True
    assert not exact(model)


def test_hooks_keep_padding():
    model = tuned("bert")
    layers_of(model).layer[0].register_forward_hook(lambda *_: None)
    assert not exact(model)


def test_without_a_mask_nothing_is_known_about_padding():
    batch = make_batch(4, 12)
    assert not any(skips_padding(tuned("bert"), {"input_ids": batch["input_ids"]}, FILL, "right"))


def test_a_model_with_few_positions_is_tried_on_texts_that_fill_them():
    batch = make_batch(3, 40)  # all positions that the tiny model has
    batch.pop("labels")
    assert all(skips_padding(tuned("bert"), {**batch, "attention_mask": torch.ones(3, 40).long()}, FILL, "right"))


def test_rows_lose_half_their_tokens_on_the_side_of_the_padding():
    batch = {"input_ids": torch.arange(20).view(1, 20), "attention_mask": torch.ones(1, 20).long()}
    right, left = (padded_rows(batch, FILL, side) for side in ("right", "left"))
    assert right["input_ids"].tolist()[:2] == [[*range(20)], [*range(10), *[1] * 10]]
    assert left["attention_mask"].tolist()[1::2] == [[0] * 10 + [1] * 10] * 2
    assert batch["input_ids"].tolist() == [[*range(20)]]


@pytest.mark.parametrize("tokens", [2, 3, 6])
def test_a_first_batch_of_short_texts_decides_as_any_other(tokens):
    batch = {"input_ids": torch.arange(5, 5 + tokens).repeat(3, 1), "attention_mask": torch.ones(3, tokens).long()}
    assert padded_rows(batch, FILL, "right")["input_ids"].shape[1] >= 16
    assert all(skips_padding(tuned("bert"), batch, FILL, "right"))
    assert not any(skips_padding(tuned("mpnet"), batch, FILL, "right"))


# ---- trainings -------------------------------------------------------------------------------------------------------


def collate(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {"labels": torch.tensor([row["labels"] for row in rows])}
    for name, fill in (("input_ids", 1), ("attention_mask", 0)):
        batch[name] = torch.tensor([[*row[name], *[fill] * (longest - len(row[name]))] for row in rows])
    return batch


def texts():
    rows = plain.rows()
    lengths = [3 + 7 * at % 9 for at in range(len(rows))]
    return [
        {**row, "input_ids": (row["input_ids"] * 2)[:length], "attention_mask": [1] * length}
        for row, length in zip(rows, lengths, strict=True)
    ]


@pytest.mark.parametrize("seeds", [[42], [42, 43]])
@pytest.mark.parametrize("strategy", [None, DelayedEnsemble(members=3, ensemble_from=0.5)])
def test_a_training_without_padding_is_that_with_padding(tmp_path, monkeypatch, layouts, strategy, seeds):
    def run():
        made = {"model_init": lambda: plain.bert(None), "train": texts(), "data_collator": collate, "seeds": seeds}
        trainer = plain.trained(tmp_path, strategy, **made)
        return trainer, trainer.predict(texts()).predictions

    trainer, predicted = run()
    used = [each for each in layouts if each]
    assert all(trainer.engine_plan.without_padding)
    assert len(used) > trainer.state.global_step
    layouts.clear()
    monkeypatch.setattr("deni.training.engine_choice.skips_padding", lambda *_: (False, False))
    padded, expected = run()
    assert not any(padded.engine_plan.without_padding)
    assert not layouts
    assert plain.distance(plain.values(trainer), plain.values(padded)) < 1e-9
    assert float(abs(predicted - expected).max()) < 1e-9


def test_a_training_without_padding_in_its_texts_has_the_same_bits(tmp_path, monkeypatch):
    one = plain.trained(tmp_path, DelayedEnsemble(members=2, ensemble_from=0.5))
    monkeypatch.setattr("deni.training.engine_choice.skips_padding", lambda *_: (False, False))
    other = plain.trained(tmp_path, DelayedEnsemble(members=2, ensemble_from=0.5))
    assert plain.same(plain.values(one), plain.values(other))
