"""Weights that are replaced by their initial values, against the formula and its derivative."""

import pytest
import torch
import torch.nn.functional as F
from transformers.pytorch_utils import Conv1D

from deni.engine.dropout import MemberDropout, Streams
from deni.population import Population
from deni.randomness import Sources
from deni.strategies import Default, DelayedEnsemble, Mixout
from tests.helpers.plain import NO_DROPOUT, Watch, bert, distance, fine_tune, lora, make, same, tensors, trained, values
from tests.helpers.tiny import ARCHITECTURES


def batch(population, labels=(0, 1, 2, 1)):
    draw = torch.Generator().manual_seed(3)
    inputs = {"input_ids": torch.randint(1, 60, (4, 6), generator=draw)}
    return population.module.fold(inputs), torch.tensor(labels)


def loss_of(population):
    """The sum over all members of each one's loss."""
    total = 0.0
    for chunk in population.module.chunks:
        population.module.focus(chunk)
        inputs, labels = batch(population)
        logits = population.module(**inputs).logits.unflatten(0, (len(chunk), -1))
        total = total + sum(F.cross_entropy(each, labels) for each in logits)
    return total


def moved(population):
    """Move away from the start, where mixing would change nothing."""
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in population.values.values():
            value += 0.05 * torch.randn(value.shape, generator=draw, dtype=torch.float64)


def mixing(p, layers, drawn):
    """A forward pass whose weights are t + keep * (W - t) / (1 - p), for the plain loop; autograd derives it."""
    targets = {}

    def forward(model, ids, step):
        stream = MemberDropout.entered[-1].generators[0]  # what dropout draws from
        linear = {f"{name}.weight": m.weight for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        mixed = {}
        for name, weight in linear.items():
            if layers == "linear" or name == "classifier.weight":
                t = targets.setdefault(name, weight.detach().clone())
                keep = torch.rand(weight.shape, generator=stream) >= p
                drawn.append(keep.flatten())
                mixed[name] = torch.where(keep, (weight - p * t) / (1 - p), t)
        return torch.func.functional_call(model, mixed, (), {"input_ids": ids}).logits

    return forward


@pytest.mark.parametrize(("layers", "p"), [("head", 0.9), ("head", 0.3), ("linear", 0.9), ("linear", 0.3)])
def test_training_is_a_plain_loop_with_the_formula(tmp_path, layers, p):
    """The unmixed weights are what the optimiser moves, by the gradient that autograd has for the formula."""
    trainer = trained(tmp_path, Mixout(mixout=p, mixout_layers=layers))
    model, drawn = bert(**(NO_DROPOUT if layers == "linear" else {})), []
    model.dropout.p = 0.0
    expected = fine_tune(model, forward=mixing(p, layers, drawn))
    assert distance(expected, trainer.population.member(0)) < 1e-9
    assert len(drawn) == 20 * (1 if layers == "head" else 14)  # six linear layers in each of two, pooler, head
    assert float(torch.cat(drawn).double().mean()) == pytest.approx(1 - p, abs=0.03)
    assert distance(expected, trained(tmp_path).population.member(0)) > 1e-3


def test_the_defaults_are_those_of_the_paper(tmp_path):
    mine = trained(tmp_path, Mixout())
    assert same(values(mine), values(trained(tmp_path, Mixout(mixout=0.9, mixout_layers="head"))))
    assert not same(values(mine), values(trained(tmp_path, Mixout(mixout=0.8))))


@pytest.mark.parametrize("layers", ["head", "linear"])
@pytest.mark.parametrize(("engine", "members"), [("loop", 1), ("loop", 3), ("stacked", 3)])
def test_the_gradient_is_that_of_finite_differences(layers, engine, members):
    strategy = Mixout(mixout=0.4, mixout_layers=layers)
    population = Population(strategy.prepare_model(bert(**NO_DROPOUT)), [Sources(0)], engine)
    population.module.train()
    strategy.start(population)
    population.fork(members)
    moved(population)
    states = [stream.get_state() for stream in population.streams]

    def loss(backward=False):
        for stream, state in zip(population.streams, states, strict=True):
            stream.set_state(state)
        with strategy.training(population, 0, 10):
            value = loss_of(population)
            if backward:
                value.backward()
                population.module.collect()
        return float(value.detach())

    population.module.zero_grad()
    before = {name: value.clone() for name, value in population.values.items()}
    loss(backward=True)
    assert same(before, population.values)  # unmixed again
    gradients = {name: [view.grad.clone() for view in views] for name, views in population.views.items()}
    checked = ["classifier.weight", "bert.encoder.layer.0.attention.self.query.weight", "classifier.bias"]
    for name in checked:
        for member, gradient in enumerate(gradients[name]):
            flat, own = population.values[name][member].view(-1), gradient.flatten()
            for at in (0, 1, 2, 5, 8, len(flat) // 2, len(flat) - 1) if name != "classifier.bias" else (0, 2):
                was = float(flat[at])
                slope = 0.0
                for sign in (1, -1):
                    flat[at] = was + sign * 1e-5
                    slope += sign * loss() / 2e-5
                flat[at] = was
                assert float(own[at]) == pytest.approx(slope, abs=1e-8)
    kept = gradients["classifier.weight"][0] != 0
    assert 0.4 < float(kept.double().mean()) < 0.8  # replaced weights have no gradient: about 0.4 of them


def test_members_have_masks_of_their_own_and_both_engines_agree(tmp_path):
    for layers in ("head", "linear"):
        ended = []
        for engine in ("loop", "stacked"):
            strategy = Mixout(mixout=0.5, mixout_layers=layers) + DelayedEnsemble(
                members=3, ensemble_from=0.5, variance=0
            )
            trainer = trained(tmp_path, strategy, model=bert(**NO_DROPOUT), engine=engine)
            assert trainer.population.engine_name == engine
            ended.append(values(trainer))
        assert distance(*ended) < 1e-9
        head = ended[0]["classifier.weight"]  # nothing but the masks tells them apart
        assert (head[0] - head[1]).abs().max() > 1e-5
        alone = values(trained(tmp_path, Mixout(mixout=0.5, mixout_layers=layers), model=bert(**NO_DROPOUT)))
        assert distance(alone, {name: value[:1] for name, value in ended[0].items()}) < 1e-9


def test_one_mask_serves_all_passes_of_a_step(tmp_path):
    watch = Watch()
    args = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    trained(tmp_path, Mixout(), args=args, model=bert(**NO_DROPOUT), callbacks=[watch])
    stream = Sources(42)["dropout"]
    assert len(watch.gradients) == 20
    for gradients in watch.gradients:
        keep = torch.rand(3, 32, generator=stream) >= 0.9
        assert torch.equal(gradients["classifier.weight"] != 0, keep)


def test_each_run_of_a_pack_is_pulled_to_its_own_start(tmp_path):
    pack = values(trained(tmp_path, Mixout(), model_init=lambda: bert(seed=None), seeds=[5, 6]))
    assert (pack["classifier.weight"][0] - pack["classifier.weight"][1]).abs().max() > 1e-3
    for run, seed in enumerate((5, 6)):
        alone = values(trained(tmp_path, Mixout(), model_init=lambda: bert(seed=None), seeds=[seed]))
        assert distance({name: value[run : run + 1] for name, value in pack.items()}, alone) < 1e-9


def test_the_head_alone_has_no_dropout_in_front_and_the_encoder_keeps_its_own():
    model = Mixout().prepare_model(bert(classifier_dropout=0.3))
    assert model.dropout.p == 0.0
    assert model.bert.embeddings.dropout.p == 0.1
    untouched = Mixout(mixout=0.0).prepare_model(bert(classifier_dropout=0.3))
    assert untouched.dropout.p == 0.3


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "electra", "mpnet", "deberta-v2", "gpt2", "modernbert"])
def test_with_all_linear_layers_no_dropout_is_left(tiny, batch, architecture):
    from tests.helpers.tiny import SMALL

    on = (
        {"attention_dropout": 0.2, "embedding_dropout": 0.2, "mlp_dropout": 0.2} if architecture == "modernbert" else {}
    )
    family, sizes = SMALL[architecture]
    SMALL["with dropout"] = (family, {**sizes, **on})
    try:
        model = tiny("with dropout")
    finally:
        del SMALL["with dropout"]
    inputs = {key: value for key, value in batch().items() if key != "labels"}

    def logits(seed):
        with MemberDropout(Streams([torch.Generator().manual_seed(seed)])):
            return model(**inputs).logits

    assert not torch.equal(logits(1), logits(2))
    Mixout(mixout_layers="linear").prepare_model(model)
    assert torch.equal(logits(1), logits(2))


@pytest.mark.parametrize(
    "architecture", [*ARCHITECTURES, "electra", "mpnet", "deberta-v2", "gpt2", "modernbert", "llama"]
)
def test_all_linear_layers_are_mixed_also_gpt2s(tiny, architecture):
    model = tiny(architecture)
    strategy = Mixout(mixout=0.5, mixout_layers="linear")
    of_type = (torch.nn.Linear, Conv1D)
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, of_type)}
    population = Population(strategy.prepare_model(model), [Sources(0)], "loop")
    strategy.start(population)
    assert set(population.kept["mixout"]) == linear


def test_with_lora_the_linear_layers_that_train_are_mixed():
    strategy = Mixout(mixout=0.5, mixout_layers="linear")
    population = Population(strategy.prepare_model(lora()), [Sources(0)], "loop")
    strategy.start(population)
    mixed = set(population.kept["mixout"])
    assert mixed == {
        name
        for name in population.slots
        if "lora_" in name or name.endswith("classifier.modules_to_save.default.weight")
    }
    assert any("lora_A" in name for name in mixed)


@pytest.mark.parametrize("layers", ["head", "linear"])
def test_without_probability_it_is_default(tmp_path, layers):
    strategy = Mixout(mixout=0.0, mixout_layers=layers)
    assert same(values(trained(tmp_path, strategy)), values(trained(tmp_path, Default())))


def test_predictions_are_with_the_unmixed_weights(tmp_path):
    trainer = trained(tmp_path, Mixout())
    model = bert().eval()
    ids = tensors([{"input_ids": [4, 5, 6], "labels": 0}])[0]
    with torch.no_grad():
        logits = torch.func.functional_call(model, trainer.population.member(0), (ids,)).logits
    found = trainer.predict([{"input_ids": [4, 5, 6], "labels": 0}]).predictions
    assert torch.allclose(torch.tensor(found), logits.log_softmax(-1), atol=1e-12)


def test_resumed_is_not_stopped(tmp_path):
    args = {"save_strategy": "steps", "save_steps": 9}
    strategy = Mixout(mixout_layers="linear") + DelayedEnsemble(members=2)
    whole = trained(tmp_path, strategy, args=args)
    resumed = make(tmp_path, strategy, args=args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-9"))
    assert same(values(whole), values(resumed))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mixout": 1.0}, r"mixout must be in \[0, 1\), not 1.0"),
        ({"mixout_layers": "odd"}, "unknown mixout_layers 'odd'"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Mixout(**setting)
