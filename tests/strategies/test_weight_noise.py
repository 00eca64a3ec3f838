"""Noise on the weights in the middle of training."""

import pytest
import torch

from deni.randomness import Sources
from deni.strategies import Default, DelayedEnsemble, WeightNoise
from tests.helpers.plain import Watch, bert, distance, fine_tune, lora, make, same, trained, values

MIDDLE = {"noise_every": 0.1}  # of 20 steps: after 6, 8, ..., 16


def perturbed(trainer, watch):
    """Steps done -> what was added to member 0 after them: the parameters before the next step less those after it."""
    added = {}
    for done, (after, later) in enumerate(zip(watch.after, [*watch.before[1:], trainer.population.member(0)]), 1):  # noqa: B905
        moved = {name: later[name] - after[name] for name in after}
        if any(value.any() for value in moved.values()):
            added[done] = moved
    return added


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1250, list(range(375, 1125, 25))),
        (100, list(range(30, 90, 2))),
        (20, list(range(6, 18))),
        (5, [2, 3, 4]),
    ],
)
def test_noise_comes_every_fiftieth_of_the_steps_from_three_to_nine_tenths(steps, expected):
    seen = []

    class Population:
        def perturb(self, noise):
            seen.append(noise.variance)

    for step in range(1, steps + 1):
        before = len(seen)
        WeightNoise().after_step(Population(), step, steps)
        assert (len(seen) > before) == (step in expected)
    assert seen == pytest.approx([0.15 / step for step in expected])


def test_the_noise_is_that_of_the_source_scaled_and_fading_on_the_head_alone(tmp_path):
    watch = Watch()
    trainer = trained(tmp_path, WeightNoise(**MIDDLE), callbacks=[watch])
    added = perturbed(trainer, watch)
    assert list(added) == [6, 8, 10, 12, 14, 16]
    draws = Sources(42)["noise"]
    for step, moved in added.items():
        assert {name for name, value in moved.items() if value.any()} == {"classifier.weight", "classifier.bias"}
        for name in ("classifier.weight", "classifier.bias"):
            tensor = watch.after[step - 1][name]
            eps = torch.randn(tensor.shape, generator=draws, dtype=torch.float64)
            expected = (0.15 / step) ** 0.5 * tensor.std() * eps
            assert (moved[name] - expected).abs().max() < 1e-6 * expected.abs().max()


def test_the_measured_variance_is_v_over_the_step():
    """A wide head, so that the spread of 40 000 draws is known to about one part in 100."""
    from deni.population import Population

    model = torch.nn.Sequential(torch.nn.Linear(200, 200))
    population = Population(model, [Sources(0)], "loop")
    for scale in ("scaled", "uniform"):
        before = population.values["0.weight"].clone()
        WeightNoise(scale=scale).after_step(population, 50, 100)
        spread = float((population.values["0.weight"] - before).var())
        unit = float(before.var()) if scale == "scaled" else 1.0
        assert spread == pytest.approx(0.15 / 50 * unit, rel=0.03)
        before = population.values["0.weight"].clone()
        for step in (29, 51, 90, 100):
            WeightNoise(scale=scale).after_step(population, step, 100)
        assert torch.equal(before, population.values["0.weight"])


@pytest.mark.parametrize("scope", ["auto", "trainable"])
def test_training_is_a_plain_loop_with_the_same_draws(tmp_path, scope):
    trainer = trained(tmp_path, WeightNoise(scope=scope, **MIDDLE))
    draws = Sources(42)["noise"]

    def disturb(model, step):
        if step in (6, 8, 10, 12, 14, 16):
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if scope == "trainable" or name.startswith("classifier."):
                        eps = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
                        parameter += (0.15 / step) ** 0.5 * parameter.std() * eps

    expected = fine_tune(bert(), after=disturb)
    assert distance(expected, trainer.population.member(0)) < 1e-6
    assert distance(expected, trained(tmp_path).population.member(0)) > 1e-3


def test_with_peft_all_that_trains_is_perturbed(tmp_path):
    watch = Watch()
    trainer = trained(tmp_path, WeightNoise(floor=0.01, **MIDDLE), model=lora(), callbacks=[watch])
    added = perturbed(trainer, watch)
    assert list(added) == [6, 8, 10, 12, 14, 16]
    assert all(value.any() for moved in added.values() for value in moved.values())


def test_each_forked_member_gets_noise_of_its_own_in_both_engines(tmp_path):
    ended = []
    for engine in ("loop", "stacked"):
        strategy = WeightNoise(noise_every=0.1, noise_until=1.0) + DelayedEnsemble(members=3, ensemble_from=0.5)
        trainer = trained(tmp_path, strategy, engine=engine)
        assert trainer.population.engine_name == engine
        ended.append(values(trainer))
    assert distance(*ended) < 1e-10
    head = ended[0]["classifier.weight"]
    assert not torch.equal(head[0], head[1])
    parent = trained(tmp_path, WeightNoise(noise_every=0.1, noise_until=0.5))  # before the fork: 6, 8
    again = trained(tmp_path, WeightNoise(noise_every=0.1, noise_until=0.5) + DelayedEnsemble(members=3))
    assert distance(values(parent), {name: value[:1] for name, value in values(again).items()}) < 1e-12


def test_without_variance_it_is_default(tmp_path):
    assert same(values(trained(tmp_path, WeightNoise(variance=0.0))), values(trained(tmp_path, Default())))


def test_resumed_between_two_noisy_steps_is_not_stopped(tmp_path):
    args = {"save_strategy": "steps", "save_steps": 9}
    whole = trained(tmp_path, WeightNoise(**MIDDLE), args=args)
    resumed = make(tmp_path, WeightNoise(**MIDDLE), args=args)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-9"))
    assert same(values(whole), values(resumed))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"noise_every": 0.0}, "noise_every must be above 0"),
        ({"noise_from": 1.5}, "noise_from is a fraction of all steps, from 0 to 1, not 1.5"),
        ({"variance": -1.0}, "variance must be from 0 to"),
        ({"scale": "wide"}, "unknown scale 'wide': choose from scaled, uniform"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        WeightNoise(**setting)
