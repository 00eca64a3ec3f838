"""Which noise the members of a fork get, where none is given."""

import pytest

from deni.recipe import Recipe
from deni.strategies import DENI, DelayedEnsemble, LinearProbe, make_strategy
from tests.helpers.trainers import make


@pytest.mark.parametrize(
    ("given", "adapter", "variance", "scope"),
    [
        ({}, True, 0.15, "auto"),
        ({}, False, 0.005, "trainable"),
        ({"scope": "head"}, False, 0.15, "head"),
        ({"scope": "trainable"}, False, 0.15, "trainable"),
        ({"variance": 0.15}, False, 0.15, "auto"),
        ({"variance": 0.0}, False, 0.0, "auto"),
        ({"members": 1}, False, 0.15, "auto"),
    ],
)
def test_what_is_left_open_depends_on_the_tuning(given, adapter, variance, scope):
    found = DENI(**given).for_tuning(adapter)
    assert (found.variance, found.scope) == (variance, scope)
    assert found.for_tuning(not adapter) == found  # nothing is open any more


def test_a_recipe_knows_its_tuning():
    for tuning, variance in (("full", 0.005), ("lora", 0.15), ("ia3", 0.15), ("prompt", 0.15)):
        recipe = Recipe.of(None, "linear_probe+deni", tuning)
        assert recipe.settings()["strategy"]["settings"]["deni"]["variance"] == variance
    assert Recipe.of("paper", "deni", "full", learning_rate=1e-5).strategy.variance == 0.15
    assert Recipe.of("released", "deni", "full", learning_rate=1e-5).strategy.variance == 0.15


def test_parts_of_a_strategy_are_asked_and_others_stay_as_they_are():
    assert make_strategy("linear_probe+delayed_ensemble").for_tuning(False).parts == (
        LinearProbe(),
        DelayedEnsemble(variance=0.005, scope="trainable"),
    )


def test_a_trainer_knows_the_tuning_of_its_model(tmp_path):
    assert make(tmp_path, DENI(members=2)).strategy == DENI(members=2, variance=0.005, scope="trainable")
