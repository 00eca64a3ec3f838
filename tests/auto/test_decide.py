import dataclasses
import json

import pytest
import torch

from deni.auto import Row, as_lines, as_sentence, decide, table
from deni.auto.decide import member_steps
from deni.errors import SettingError
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.settings import open_fields
from deni.strategies import DENI, Auto, BestPractices, LinearProbe, make_strategy
from deni.tuning import Full, Lora

ROW = Row(
    "made",
    strategy="linear_probe+best_practices",
    strategy_settings={"probe_c": 0.01},
    tuning="lora",
    tuning_settings={"lora_r": 4},
    recipe={"epochs": 3, "pooling": "mean", "normalize_features": True, "learning_rate": 2e-3, "head_lr_scale": 5.0},
    why="It is made.",
    evidence="provisional: waits for nothing",
)


def decided(texts, **given):
    return decide(Recipe(**given), texts, [ROW])


def test_a_recipe_becomes_what_the_row_says(texts_of, model_folder):
    recipe = decided(texts_of(), model=model_folder, seed=3)
    assert recipe.strategy == LinearProbe(0.01) + BestPractices(epochs=3)
    assert recipe.tuning == Lora(lora_r=4)
    assert (recipe.epochs, recipe.weight_decay, recipe.warmup_ratio) == (3, 0.01, 0.1)
    assert (recipe.pooling, recipe.normalize_features, recipe.learning_rate) == ("mean", True, 2e-3)
    assert (recipe.head_lr_scale, recipe.pairs, recipe.seed) == (5.0, "cross", 3)
    assert recipe.given == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tuning", Full()),
        ("epochs", 2),
        ("learning_rate", 1e-5),
        ("weight_decay", 0.0),
        ("warmup_ratio", 0.0),
        ("pooling", "auto"),
        ("normalize_features", False),
        ("pairs", "cross"),
        ("head_lr_scale", 1.0),
    ],
)
def test_what_is_given_wins_also_where_it_is_the_plain_value(name, value, texts_of, model_folder):
    recipe = decided(texts_of(), model=model_folder, **{name: value})
    assert getattr(recipe, name) == value
    assert recipe.strategy.arguments().get(name, value) == value
    settings = recipe.chosen["settings"]
    assert settings[name]["from"] == "given"
    assert [each for each, said in settings.items() if said["from"] == "given"] == [name]


def test_all_that_may_be_left_open_is_tested_above():
    own = test_what_is_given_wins_also_where_it_is_the_plain_value.pytestmark[0].args[1]
    assert {name for name, _ in own} == set(open_fields(Recipe))


def test_rates_hold_for_the_tuning_of_the_row_alone(texts_of, model_folder):
    recipe = decided(texts_of(), model=model_folder, tuning=Full())
    assert (recipe.rate, recipe.head_lr_scale) == (Full.learning_rate, 1.0)
    recipe = decided(texts_of(), model=model_folder, tuning=Lora())
    assert (recipe.rate, recipe.head_lr_scale, recipe.tuning) == (2e-3, 5.0, Lora())


def test_another_strategy_leaves_nothing_open(texts_of, model_folder):
    recipe = Recipe(model=model_folder, strategy=DENI())
    assert recipe.given == ()
    assert decide(recipe, texts_of()) is recipe
    assert recipe.chosen is None


def test_a_recipe_made_of_another_one_keeps_what_was_given():
    recipe = Recipe(epochs=10, pooling="auto")
    assert recipe.given == dataclasses.replace(recipe, seed=7).given == ("epochs", "pooling")
    assert dataclasses.replace(recipe, warmup_ratio=0.1).given == ("epochs", "pooling", "warmup_ratio")
    assert dataclasses.replace(recipe, strategy=DENI()).given == ()
    assert Recipe().given == dataclasses.replace(Recipe(), model="bert").given == ()


def test_a_preset_is_the_method_of_the_paper():
    for preset in ("paper", "released"):
        plan = Recipe.of(preset, learning_rate=1e-4)
        assert (
            plan
            == Recipe.of(preset, "auto", learning_rate=1e-4)
            == Recipe.of(preset, "deni", "full", learning_rate=1e-4)
        )


def test_settings_need_the_name_of_what_has_them():
    with pytest.raises(SettingError, match="members is a setting of a strategy, and auto has none: name one"):
        Recipe.of(strategy_settings={"members": 3})
    with pytest.raises(SettingError, match="lora_r is a setting of a tuning, and auto has yet to choose one: name"):
        Recipe.of(tuning_settings={"lora_r": 3})
    assert Recipe.of(tuning="lora", tuning_settings={"lora_r": 3}).given == ("tuning",)


def test_it_trains_to_the_bit_what_its_name_and_settings_train(texts_of, model_folder, monkeypatch):
    train = texts_of()
    monkeypatch.setattr(table, "ROWS", [ROW])
    one = fine_tune(train, Recipe(model=model_folder, epochs=2, seed=1), progress=False)
    chosen = one.recipe.chosen["settings"]
    assert chosen["strategy"]["value"] == "linear_probe+best_practices (probe_c 0.01, epochs 2)"
    named = Recipe(
        model=model_folder,
        strategy=make_strategy("linear_probe+best_practices", probe_c=0.01, epochs=2),
        tuning=Lora(lora_r=4),
        pooling="mean",
        normalize_features=True,
        learning_rate=2e-3,
        head_lr_scale=5.0,
        seed=1,
    )
    other = fine_tune(train, named, progress=False)
    mine, theirs = one.trainer.population.values, other.trainer.population.values
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert "auto" not in other.info()


def test_what_was_decided_is_json_and_is_told(texts_of, model_folder):
    recipe = decided(texts_of(), model=model_folder, epochs=4)
    chosen = json.loads(json.dumps(recipe.chosen))
    assert chosen == recipe.chosen
    assert as_sentence(chosen) == (
        "auto became linear_probe+best_practices (probe_c 0.01, epochs 4) with lora (lora_r 4), 4 epochs (row made). "
        "It is made. Evidence: provisional: waits for nothing."
    )
    lines = [" ".join(line.split()) for line in as_lines(chosen)]
    assert lines[0] == "auto: 12 labeled texts, single_label, 3 classes of 4 texts, an encoder"
    assert {"epochs 4 [given]", "pooling mean [auto]", "pairs cross [default]", "weight decay 0.01 [auto]"} <= {*lines}
    assert lines[-1] == "evidence: provisional: waits for nothing (row made)"


def test_the_cost_is_that_of_the_schedule(texts_of, model_folder):
    assert member_steps(decided(texts_of(), model=model_folder), 20) == 3 * 3
    assert member_steps(Recipe(strategy=DENI(members=3), epochs=8), 20) == DENI(members=3).schedule(24).cost


def test_what_was_given_and_does_not_fit_the_row_is_one_line(texts_of, model_folder):
    with pytest.raises(SettingError, match="pooling is not for the task token"):
        decided(texts_of("token"), model=model_folder, task="token")


def test_the_strategy_is_auto_until_then():
    assert Recipe().strategy == Recipe.of().strategy == Auto()
    assert (Recipe().tuning, Recipe().epochs, Recipe().pooling) == (Full(), 10, "auto")  # what nobody has decided yet
