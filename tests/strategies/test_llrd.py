"""Lower layers learn more slowly."""

import pytest
import torch

from deni.strategies import LLRD, SWA, Default, DelayedEnsemble
from tests.helpers.plain import NO_DROPOUT, RATE, Watch, bert, distance, fine_tune, lora, same, trained, values
from tests.helpers.tiny import SMALL

DECAY = 0.5
POWER = {
    "bert.embeddings.": 2,
    "bert.encoder.layer.0.": 1,
    "bert.encoder.layer.1.": 0,
    "bert.pooler.": 0,
    "classifier.": 0,
}


def expected_rate(name, decay=DECAY):
    return decay ** next(power for start, power in POWER.items() if name.startswith(start))


def test_the_rate_of_each_parameter_is_the_decay_to_the_power_of_its_depth(tmp_path):
    watch = Watch()
    trained(tmp_path, LLRD(layer_decay=DECAY), args={"weight_decay": 0.1}, callbacks=[watch])
    for step in (0, 7, 19):
        rates = watch.rates[step]
        assert len(rates) == len(dict(bert().named_parameters()))
        for name, rate in rates.items():
            assert rate == pytest.approx(RATE * (1 - step / 20) * expected_rate(name), rel=1e-12), name
    for name, decay in watch.decays[0].items():
        assert decay == (0.0 if "bias" in name or "LayerNorm" in name else 0.1), name


def test_training_is_a_plain_loop_with_such_groups(tmp_path):
    mine = trained(tmp_path, LLRD(layer_decay=DECAY), args={"weight_decay": 0.1}).population.member(0)
    model = bert()
    groups = [
        {
            "params": [parameter],
            "lr": RATE * expected_rate(name),
            "weight_decay": 0.0 if "bias" in name or "LayerNorm" in name else 0.1,
        }
        for name, parameter in model.named_parameters()
    ]
    expected = fine_tune(model, groups=groups)
    assert distance(expected, mine) < 1e-10
    assert distance(expected, trained(tmp_path, args={"weight_decay": 0.1}).population.member(0)) > 1e-3


def test_the_default_is_that_of_zhang_et_al(tmp_path):
    watch = Watch()
    trained(tmp_path, LLRD(), callbacks=[watch])
    for name, rate in watch.rates[0].items():
        assert rate == pytest.approx(RATE * expected_rate(name, 0.95), rel=1e-12)


@pytest.mark.parametrize("architecture", SMALL)
def test_every_architecture_has_slower_layers_below_and_the_slowest_embeddings(tiny, architecture):
    model = tiny(architecture)
    names = dict.fromkeys(name for name, _ in model.named_parameters())
    rates = {name: LLRD(layer_decay=DECAY).rate_of(name, names) for name in names}
    layers = 1 if architecture == "albert" else 2  # ALBERT's layers share their parameters
    embeddings = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    for name, parameter in model.named_parameters():
        number = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if id(parameter) in embeddings or "wpe" in name or ".embeddings." in name:
            assert rates[name] == DECAY**layers, name
        elif number is not None and architecture != "albert":
            assert rates[name] == DECAY ** (1 - number), name
        elif "embed" not in name:
            assert rates[name] == 1.0, name


def test_lora_has_the_rates_of_the_layers_it_is_in(tmp_path):
    watch = Watch()
    trained(tmp_path, LLRD(layer_decay=DECAY), model=lora(), callbacks=[watch])
    assert any("lora_A" in name for name in watch.rates[0])
    assert {expected_rate(name.removeprefix("base_model.model.")) for name in watch.rates[0]} == {1.0, 0.5, 0.25}
    for name, rate in watch.rates[0].items():
        assert rate == pytest.approx(RATE * expected_rate(name.removeprefix("base_model.model.")), rel=1e-12), name


@pytest.mark.parametrize("rate", ["schedule", "constant"])
def test_members_keep_the_rates_of_their_layers_and_both_engines_agree(tmp_path, rate):
    ended = []
    for engine in ("loop", "stacked"):
        strategy = LLRD(layer_decay=DECAY) + DelayedEnsemble(members=3, ensemble_from=0.5, fork_rate=rate)
        trainer = trained(tmp_path, strategy, model=bert(**NO_DROPOUT), engine=engine)
        ended.append(values(trainer))
        groups = {id(each): g for g in trainer.optimizer.param_groups for each in g["params"]}
        for name, views in trainer.population.views.items():
            for view in views:
                assert groups[id(view)]["initial_lr"] == pytest.approx(RATE * expected_rate(name)), name
    assert distance(*ended) < 1e-9


def test_a_constant_rate_of_swa_is_a_part_of_each_layers_own(tmp_path):
    watch = Watch()
    trained(tmp_path, LLRD(layer_decay=DECAY) + SWA(swa_rate=0.2), callbacks=[watch])
    for name, rate in watch.rates[10].items():
        assert rate == pytest.approx(0.2 * RATE * expected_rate(name), rel=1e-12)


def test_a_decay_of_one_is_default(tmp_path):
    assert same(values(trained(tmp_path, LLRD(layer_decay=1.0))), values(trained(tmp_path, Default())))


def test_an_optimizer_of_the_users_has_the_rates_and_a_scheduler_of_theirs_is_refused(tmp_path):
    model, watch = bert(), Watch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    trained(tmp_path, LLRD(layer_decay=DECAY), model=model, optimizers=(optimizer, None), callbacks=[watch])
    for name, rate in watch.rates[5].items():
        assert rate == pytest.approx(1e-2 * (1 - 5 / 20) * expected_rate(name), rel=1e-12), name
    model = bert()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    with pytest.raises(ValueError, match="llrd sets its own learning rates for some parameters"):
        trained(tmp_path, LLRD(layer_decay=DECAY), model=model, optimizers=(optimizer, scheduler))


@pytest.mark.parametrize("decay", [0.0, 1.1, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"layer_decay must be in \(0, 1\]"):
        LLRD(layer_decay=decay)
