"""Several strategies at once: in which order, with which settings, and which contradict each other."""

import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

import deni
from deni.randomness import Sources
from deni.strategies import (
    DENI,
    EMA,
    L2SP,
    LLRD,
    STRATEGIES,
    SWA,
    Augmentation,
    BestPractices,
    Composed,
    Default,
    DelayedEnsemble,
    Ensemble,
    InputNoise,
    Mixout,
    NoisyInterpolation,
    PriorNoise,
    Reinit,
    Soup,
    WeightNoise,
    make_strategy,
)
from deni.tasks.voting import vote
from tests.helpers.plain import (
    RATE,
    Watch,
    bert,
    distance,
    fine_tune,
    make,
    mean,
    parameters,
    predictions,
    rows,
    same,
    trained,
    values,
)


def test_prior_noise_and_swa_are_both_done_by_hand(tmp_path):
    watch = Watch()
    trainer = trained(tmp_path, PriorNoise() + SWA(), callbacks=[watch])
    model, draws, recorded = bert(), Sources(42)["noise"], []
    with torch.no_grad():
        for value in model.parameters():
            value += 0.15**0.5 * value.std() * torch.randn(value.shape, generator=draws, dtype=torch.float64)
    fine_tune(model, after=lambda model, _: recorded.append(parameters(model)))
    assert distance(mean(recorded[4:]), trainer.population.member(0)) < 1e-5
    assert distance(mean(watch.after[4:]), trainer.population.member(0)) < 1e-12
    assert distance(values(trainer), values(trained(tmp_path, SWA()))) > 1e-2
    held_out = rows(6, seed=8)
    found = torch.tensor(trainer.predict(held_out).predictions)
    assert (found - predictions(mean(watch.after[4:]), held_out)).abs().max() < 1e-10


def test_the_parts_are_applied_in_their_order(tmp_path):
    """The mean takes the parameters before the noise of the step, or behind it."""
    ended = {}
    for strategy in (WeightNoise(noise_every=0.1) + SWA(), SWA() + WeightNoise(noise_every=0.1)):
        watch = Watch()
        trainer = trained(tmp_path, strategy, callbacks=[watch])
        behind = [*watch.before[1:], None]
        if strategy.name == "weight_noise+swa":
            expected = mean([*behind[4:19], watch.after[19]])  # no noise after the last step
        else:
            expected = mean(watch.after[4:])
        assert distance(expected, trainer.population.member(0)) < 1e-12
        ended[strategy.name] = values(trainer)
    assert list(ended) == ["weight_noise+swa", "swa+weight_noise"]
    assert distance(*ended.values()) > 1e-4


@pytest.mark.parametrize("engine", ["loop", "stacked"])
def test_noisy_interpolation_and_a_delayed_ensemble_are_deni(tmp_path, engine):
    both = NoisyInterpolation(members=3) + DelayedEnsemble(members=3, combine="hard")
    assert both.schedule(20) == DENI(members=3).schedule(20)
    mine, deni = trained(tmp_path, both, engine=engine), trained(tmp_path, DENI(members=3), engine=engine)
    assert same(values(mine), values(deni))
    members = torch.tensor(mine.predict_members(rows(9, seed=4)))
    assert torch.equal(torch.tensor(mine.predict(rows(9, seed=4)).predictions), vote(members, "hard"))


def test_llrd_with_best_practices_is_a_plain_loop_with_both(tmp_path):
    data = rows(16)
    trainer = trained(tmp_path, BestPractices(epochs=5) + LLRD(layer_decay=0.5), train=data)
    model = bert()
    powers = {"bert.embeddings.": 2, "bert.encoder.layer.0.": 1}
    groups = [
        {
            "params": [value],
            "lr": RATE * 0.5 ** next((power for start, power in powers.items() if name.startswith(start)), 0),
            "weight_decay": 0.0 if "bias" in name or "LayerNorm" in name else 0.01,
        }
        for name, value in model.named_parameters()
    ]
    expected = fine_tune(
        model, data=data, epochs=5, groups=groups, factor=lambda at: at / 2 if at < 2 else (20 - at) / 18
    )
    assert distance(expected, trainer.population.member(0)) < 1e-10


@pytest.mark.parametrize(
    "other", [InputNoise(), WeightNoise(), PriorNoise(), Mixout(), Reinit(), LLRD(), L2SP(), BestPractices(epochs=None)]
)
def test_beside_deni_with_one_member_each_is_itself(tmp_path, other):
    """What DENI brings besides members must not touch the others."""
    alone, *both = (trained(tmp_path, each) for each in (other, other + DENI(members=1), DENI(members=1) + other))
    assert all(same(values(alone), values(each)) for each in both)


@pytest.mark.parametrize("other", [InputNoise(), WeightNoise(), PriorNoise(), Mixout(), LLRD(), Reinit()])
def test_the_parent_of_a_delayed_ensemble_beside_another_is_that_other(tmp_path, other):
    ended = []
    for engine in ("loop", "stacked"):
        trainer = trained(tmp_path, other + DelayedEnsemble(members=3), engine=engine)
        assert trainer.population.size == 3
        ended.append(values(trainer))
    assert distance(*ended) < 1e-9
    alone = trained(tmp_path, other)
    assert distance(values(alone), {name: value[:1] for name, value in ended[0].items()}) < 1e-9
    assert not torch.equal(ended[0]["classifier.weight"][1], ended[0]["classifier.weight"][2])


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (DENI(), DelayedEnsemble(), "one is a part of the other"),
        (DENI(), NoisyInterpolation(), "one is a part of the other"),
        (SWA(), EMA(), "each would predict with a mean of its own"),
        (SWA(), DENI(), "a mean over time needs one model from beginning to end, and a fork makes several"),
        (EMA(), Soup(), "a mean over time needs one model from beginning to end"),
        (Mixout(), L2SP(), "both pull the parameters back to where they began"),
        (Ensemble(), DENI(), "both decide how members vote"),
        (Soup(), DENI(), "both fork at the same time"),
        (SWA(), SWA(average_from=0.5), "one is a part of the other"),
        (Augmentation(), make_strategy("denials"), "one is a part of the other"),
    ],
)
def test_what_contradicts_is_refused_with_its_reason(one, other, why, order):
    one, other = (one, other) if order == 0 else (other, one)
    with pytest.raises(ValueError, match=f"{one.name} and {other.name} cannot be combined: {why}"):
        one + other
    with pytest.raises(ValueError, match=f"cannot be combined: {why}"):
        one + Default() + other
    if not isinstance(one, type(other)):
        with pytest.raises(ValueError, match=f"cannot be combined: {why}"):
            make_strategy(f"{one.name}+{other.name}")


def test_epochs_that_differ_are_refused_and_the_message_solves_it(tmp_path):
    message = (
        "best_practices and augmentation cannot be combined as they are: epochs is 20 in one and 12 in the other, give "
        "both the same epochs"
    )
    with pytest.raises(ValueError, match=message):
        BestPractices() + Augmentation(1)
    both = make_strategy("best_practices+augmentation", epochs=15)
    assert both.arguments() == {"epochs": 15, "weight_decay": 0.01, "warmup_ratio": 0.1}
    assert (BestPractices() + Augmentation(1, epochs=None)).arguments()["epochs"] == 20
    assert make(tmp_path, BestPractices() + LLRD()).args.num_train_epochs == 20


def test_every_pair_either_composes_in_both_orders_or_in_none():
    def names(one, other):
        try:
            return {part.name for part in (one + other).parts}
        except ValueError:
            return set()

    for one, other in itertools.combinations((cls() for cls in STRATEGIES.values()), 2):
        assert names(one, other) == names(other, one)
        assert names(one, other) in (set(), {one.name, other.name})


def test_a_sum_of_sums_is_flat():
    both = (PriorNoise() + LLRD()) + (L2SP() + DENI(members=2))
    assert isinstance(both, Composed)
    assert both.name == "prior_noise+llrd+l2_sp+deni"
    assert both.parts == (PriorNoise(), LLRD(), L2SP(), DENI(members=2))
    assert both == PriorNoise() + LLRD() + L2SP() + DENI(members=2)


def test_each_part_takes_the_settings_that_it_has():
    both = make_strategy("prior_noise+deni", variance=0.3, members=4, intensity=0.1)
    assert both.parts == (PriorNoise(variance=0.3, intensity=0.1), DENI(variance=0.3, members=4))
    own = make_strategy("prior_noise+de", variance=0.3, prior_noise={"variance": 0.1}, members=2)
    assert own.parts == (PriorNoise(variance=0.1), DelayedEnsemble(variance=0.3, members=2))
    assert make_strategy("mixout+swa", mixout=0.3).parts == (Mixout(mixout=0.3), SWA())  # a setting named as a strategy
    assert make_strategy(" ema + llrd ").parts == (EMA(), LLRD())
    assert make_strategy("prior_noise+deni", preset="paper").parts == (
        PriorNoise(),
        DENI(combine="hard", variance=0.15),
    )
    with pytest.raises(ValueError, match="none of prior_noise, deni has a setting 'speed'"):
        make_strategy("prior_noise+deni", speed=3)
    with pytest.raises(ValueError, match="unknown strategy 'magic'"):
        make_strategy("swa+magic")


@pytest.mark.parametrize(
    "strategy",
    [
        PriorNoise(variance=0.1) + SWA(average_from=0.5),
        Mixout(mixout=0.3) + DelayedEnsemble(members=3, variance=0.2),
        PriorNoise(variance=0.1) + InputNoise(variance=0.2) + WeightNoise(variance=0.3) + DENI(variance=0.4),
        BestPractices(epochs=7, warmup_ratio=0.2) + Augmentation(2, "texts.csv", epochs=7),
    ],
)
def test_nested_settings_survive_json(strategy):
    settings = json.loads(json.dumps(strategy.settings()))
    assert list(settings) == [part.name for part in strategy.parts]
    assert make_strategy(strategy.name, **settings) == strategy


def test_a_saved_population_votes_as_it_did(tmp_path, model_folder):
    trainer = trained(
        tmp_path,
        PriorNoise() + Mixout() + DENI(members=3, combine="hard"),
        model=bert(vocab_size=160),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
        active_vocabulary=False,
    )
    trainer.save_model(str(tmp_path / "artifact"))
    classifier = deni.load(tmp_path / "artifact")
    texts = ["where is my parcel", "reset my password", "the card is charged"]
    data = [{"input_ids": trainer.processing_class(text)["input_ids"], "labels": 0} for text in texts]
    for text, row in zip(texts, data, strict=True):
        found = classifier.predict_log_probabilities([text])
        assert np.exp(found) == pytest.approx(np.exp(trainer.predict([row]).predictions), abs=1e-5)
        assert set((np.exp(found) * 3).round(5).flatten()) <= {0.0, 1.0, 2.0, 3.0}  # a hard vote of three
    saved = load_file(tmp_path / "artifact" / "population.safetensors")
    assert saved["classifier.weight"].shape == (3, 3, 32)
    written = json.loads((tmp_path / "artifact" / "deni.json").read_text())["strategy"]
    assert make_strategy(written["name"], **written["settings"]) == trainer.strategy


def test_the_cost_and_the_scope_are_those_of_all_parts():
    assert str((PriorNoise() + DENI()).schedule(1250)) == str(DENI().schedule(1250))
    assert (SWA() + Ensemble(members=4)).schedule(100).cost == 400
    assert (SWA() + WeightNoise(scope="trainable")).scope == "trainable"
    assert (SWA() + WeightNoise()).scope == "auto"
    assert (SWA() + LLRD()).scope == "head"


def test_resumed_is_not_stopped(tmp_path):
    args = {"save_strategy": "steps", "save_steps": 9}
    strategy = PriorNoise() + InputNoise() + Mixout(mixout_layers="linear") + LLRD() + WeightNoise() + SWA(swa_rate=0.5)
    whole = trained(tmp_path, strategy, args=args)
    resumed = make(tmp_path, strategy, args=args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-9"))
    assert same(values(whole), values(resumed))
