"""Noise on the weights before the first step."""

import pytest
import torch
from torch import nn

from deni.population import Population
from deni.randomness import Sources
from deni.strategies import Default, DelayedEnsemble, PriorNoise
from tests.helpers.plain import Watch, bert, distance, fine_tune, lora, make, parameters, same, trained, values


def started(model, strategy, seed=0):
    """The parameters before and after `start`."""
    population = Population(model, [Sources(seed)], "loop")
    before = {name: value.clone() for name, value in population.member(0).items()}
    strategy.start(population)
    return before, population.member(0)


@pytest.mark.parametrize("scale", ["scaled", "uniform"])
def test_all_tensors_get_the_draws_of_the_source(scale):
    before, after = started(bert(), PriorNoise(scale=scale))
    draws = Sources(0)["noise"]
    for name, value in before.items():
        spread = 1.0 if scale == "uniform" else float(value.std())  # zero where all values are equal
        expected = value + 0.15**0.5 * spread * torch.randn(value.shape, generator=draws, dtype=torch.float64)
        assert (after[name] - expected).abs().max() < 1e-6 * max(spread, 1e-3), name


def test_the_variance_is_v_times_that_of_the_tensor():
    model = nn.Sequential(nn.Linear(200, 200), nn.Linear(200, 200))
    with torch.no_grad():
        model[1].weight.mul_(10)
    before, after = started(model, PriorNoise(variance=0.3))
    for name in ("0.weight", "1.weight"):
        added = after[name] - before[name]
        assert float(added.var() / before[name].var()) == pytest.approx(0.3, rel=0.03)
        assert float(added.mean() / before[name].std()) == pytest.approx(0.0, abs=0.01)


def test_noisytune_is_uniform_on_all_but_the_head():
    before, after = started(bert(), PriorNoise(prior="noisytune", intensity=0.2))
    draws = Sources(0)["noise"]
    for name, value in before.items():
        if name.startswith("classifier."):
            assert torch.equal(after[name], value)
            continue
        u = torch.rand(value.shape, generator=draws, dtype=torch.float64)
        expected = value + (u - 0.5) * 0.2 * float(value.std())
        assert (after[name] - expected).abs().max() < 1e-7, name
    name = "bert.embeddings.word_embeddings.weight"
    way = (after[name] - before[name]).abs().max() / before[name].std()
    assert 0.099 < float(way) <= 0.1 + 1e-6


def test_the_default_intensity_is_that_of_noisytune():
    before, after = started(bert(), PriorNoise(prior="noisytune"))
    name = "bert.embeddings.word_embeddings.weight"
    way = (after[name] - before[name]).abs().max() / before[name].std()
    assert 0.0745 < float(way) <= 0.075 + 1e-6


def test_noisytune_is_refused_with_peft(tmp_path):
    with pytest.raises(ValueError, match="perturbs the pre-trained weights, which are frozen with PEFT"):
        make(tmp_path, PriorNoise(prior="noisytune"), model=lora())


def test_with_peft_only_what_trains_moves_and_the_floor_reaches_a_fresh_lora():
    frozen = {name: p.detach().clone() for name, p in lora().named_parameters() if not p.requires_grad}
    model = lora()
    before, after = started(model, PriorNoise())
    fresh = [name for name in before if "lora_B" in name]
    assert fresh
    assert all(torch.equal(before[name], after[name]) for name in fresh)  # B is zero: it has no spread
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(value, model.get_parameter(name)) for name, value in frozen.items())
    model = lora()
    before, after = started(model, PriorNoise(floor=0.5))
    added = torch.cat([(after[name] - before[name]).flatten() for name in fresh])
    assert float(added.std()) == pytest.approx(0.15**0.5 * 0.5, rel=0.1)


@pytest.mark.parametrize("prior", ["normal", "noisytune"])
def test_tensors_of_one_element_or_of_equal_values_stay_as_they_are(prior):
    model = nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(4), nn.Linear(4, 3))
    before, after = started(model, PriorNoise(prior=prior))
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        assert torch.equal(before[name], after[name])
    assert all(torch.isfinite(value).all() for value in after.values())
    assert torch.equal(before["2.weight"], after["2.weight"]) == (prior == "noisytune")


@pytest.mark.parametrize("prior", ["normal", "noisytune"])
def test_training_is_a_plain_loop_from_the_noisy_weights(tmp_path, prior):
    watch = Watch()
    trainer = trained(tmp_path, PriorNoise(prior=prior), callbacks=[watch])
    model, draws = bert(), Sources(42)["noise"]
    with torch.no_grad():
        for name, value in model.named_parameters():
            if prior == "normal":
                value += 0.15**0.5 * value.std() * torch.randn(value.shape, generator=draws, dtype=torch.float64)
            elif not name.startswith("classifier."):
                value += (torch.rand(value.shape, generator=draws, dtype=torch.float64) - 0.5) * 0.15 * value.std()
    assert distance(parameters(model), watch.before[0]) < 1e-6
    assert distance(parameters(model), parameters(bert())) > 1e-3
    assert distance(fine_tune(model), trainer.population.member(0)) < 1e-5


def test_each_run_of_a_pack_has_noise_of_its_own(tmp_path):
    pack = values(trained(tmp_path, PriorNoise(), model_init=lambda: bert(), seeds=[5, 6]))
    for run, seed in enumerate((5, 6)):
        alone = values(trained(tmp_path, PriorNoise(), model_init=lambda: bert(), seeds=[seed]))
        assert distance({name: value[run : run + 1] for name, value in pack.items()}, alone) < 1e-9
    assert not torch.equal(pack["classifier.weight"][0], pack["classifier.weight"][1])


def test_without_variance_it_is_default(tmp_path):
    assert same(values(trained(tmp_path, PriorNoise(variance=0.0))), values(trained(tmp_path, Default())))


def test_a_resumed_run_gets_no_noise_again(tmp_path):
    args = {"save_strategy": "steps", "save_steps": 9}
    strategy = PriorNoise() + DelayedEnsemble(members=2)
    whole = trained(tmp_path, strategy, args=args)
    resumed = make(tmp_path, strategy, args=args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-9"))
    assert same(values(whole), values(resumed))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"intensity": -1.0}, "intensity must be at least 0, not -1.0"),
        ({"variance": float("inf")}, "variance must be from 0"),
        ({"prior": "none"}, "unknown prior 'none': choose from normal, noisytune"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        PriorNoise(**setting)
