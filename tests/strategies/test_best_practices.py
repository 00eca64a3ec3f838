"""Best practices, against a plain loop with torch.optim.AdamW and LambdaLR."""

import pytest
from transformers import TrainerCallback

from deni.recipe import Recipe
from deni.strategies import BestPractices, make_strategy
from tests.helpers.plain import (
    RATE,
    Watch,
    bert,
    decayed,
    distance,
    fine_tune,
    make,
    parameters,
    rows,
    same,
    trained,
    values,
)


def test_the_defaults_train_as_a_plain_loop_with_warm_up_and_decay(tmp_path):
    data, watch = rows(16), Watch()  # 4 steps an epoch, 80 in all
    trainer = trained(tmp_path, BestPractices(), train=data, callbacks=[watch])
    assert trainer.args.num_train_epochs == 20
    assert trainer.state.global_step == 80

    def factor(step):
        return step / 8 if step < 8 else (80 - step) / 72

    model = bert()
    expected = fine_tune(model, data=data, epochs=20, groups=decayed(model, 0.01), factor=factor)
    assert distance(expected, trainer.population.member(0)) < 1e-9
    rates = [each["classifier.weight"] for each in watch.rates]
    assert rates == pytest.approx([RATE * factor(step) for step in range(80)])
    assert watch.decays[0]["classifier.weight"] == 0.01
    assert watch.decays[0]["classifier.bias"] == 0.0


def test_it_differs_from_plain_fine_tuning_of_the_same_length(tmp_path):
    data = rows(16)
    plain = trained(tmp_path, train=data, args={"num_train_epochs": 20})
    assert distance(values(plain), values(trained(tmp_path, BestPractices(), train=data))) > 1e-3


def test_settings_of_none_leave_those_of_the_training(tmp_path):
    own = {"num_train_epochs": 1, "weight_decay": 0.2}
    strategy = BestPractices(epochs=None, weight_decay=None, warmup_ratio=None)
    assert strategy.arguments() == {}
    assert same(values(trained(tmp_path, strategy, args=own)), values(trained(tmp_path, args=own)))


def test_its_warm_up_wins_over_that_of_the_training(tmp_path):
    watch = Watch()
    trained(tmp_path, BestPractices(epochs=2), args={"warmup_steps": 5}, callbacks=[watch])
    rates = [each["classifier.weight"] for each in watch.rates[:4]]
    assert rates == pytest.approx([0.0, RATE / 2, RATE, RATE * 17 / 18])


def test_the_users_training_arguments_stay_as_they_were(tmp_path):
    trainer = make(tmp_path, BestPractices())
    other = make(tmp_path)
    assert trainer.args.weight_decay == 0.01
    assert other.args.weight_decay == 0.0


def test_the_optimiser_corrects_the_bias_of_its_first_steps(tmp_path):
    """Without correction the first step of Adam would be shorter by sqrt(1 - 0.999) / (1 - 0.9)."""

    class StopAfterOne(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = True

    watch, start = Watch(), parameters(bert())
    strategy = BestPractices(warmup_ratio=0.0, weight_decay=0.0)
    trained(tmp_path, strategy, callbacks=[watch, StopAfterOne()])
    gradient = watch.gradients[0]["classifier.weight"]
    way = start["classifier.weight"] - watch.after[0]["classifier.weight"]
    assert (way - RATE * gradient / (gradient.abs() + 1e-8)).abs().max() < 1e-12


def test_the_recipe_takes_the_settings_of_the_strategy():
    plan = Recipe.of(None, "best_practices")
    assert (plan.epochs, plan.weight_decay, plan.warmup_ratio) == (20, 0.01, 0.1)
    plan = Recipe.of(None, "best_practices", epochs=3, weight_decay=0.5)
    assert (plan.epochs, plan.weight_decay, plan.warmup_ratio) == (3, 0.5, 0.1)
    assert Recipe.of("released", "best_practices").weight_decay == 0.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, not 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
        ({"warmup_ratio": 1.0}, r"warmup_ratio must be in \[0, 1\), not 1.0"),
        ({"epochs": float("nan")}, "epochs must be a finite number, not nan"),
        ({"epochs": float("inf")}, "epochs must be a finite number, not inf"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        make_strategy("best_practices", **setting)
