"""Which noise the members of a fork get, where none is given."""

import pytest

from deni.recipe import Recipe
from deni.strategies import DENI, DelayedEnsemble, LinearProbe, make_strategy
from tests.helpers.trainers import make


@pytest.mark.parametrize(
    ("given", "adapter", "scope", "interpolation", "last"),
    [
        ({}, True, "auto", 0.15, 0.15),
        ({}, False, "trainable", 0.15, 0.005),
        ({"scope": "head"}, False, "head", 0.15, 0.15),
        ({"scope": "trainable"}, False, "trainable", 0.15, 0.005),
        ({"scope": "trainable"}, True, "trainable", 0.15, 0.15),
        ({"variance": 0.15}, False, "auto", 0.15, 0.15),
        ({"variance": 0.0}, False, "auto", 0.0, 0.0),
        ({"variance": 0.3, "scope": "trainable"}, False, "trainable", 0.3, 0.3),
        ({"members": 1}, False, "auto", 0.15, 0.15),
    ],
)
def test_what_is_left_open_depends_on_the_tuning(given, adapter, scope, interpolation, last):
    found = DENI(**given).for_tuning(adapter)
    assert found.for_tuning(adapter) == found
    forks = found.fork(100, fade=True), found.fork(100)
    assert [fork.noise.variance for fork in forks] == [pytest.approx(interpolation / 100), last]
    assert {fork.noise.scope for fork in forks} == {scope}


def test_a_recipe_knows_its_tuning():
    for tuning, variance in (("full", None), ("lora", 0.15), ("ia3", 0.15), ("prompt", 0.15)):
        recipe = Recipe.of(None, "linear_probe+deni", tuning)
        settings = recipe.settings()["strategy"]["settings"]["deni"]
        assert (settings["variance"], settings["scope"]) == (variance, "auto" if variance else "trainable")
    assert Recipe.of("paper", "deni", "full", learning_rate=1e-5).strategy.variance == 0.15
    assert Recipe.of("released", "deni", "full", learning_rate=1e-5).strategy.variance == 0.15


def test_parts_of_a_strategy_are_asked_and_others_stay_as_they_are():
    assert make_strategy("linear_probe+delayed_ensemble").for_tuning(False).parts == (
        LinearProbe(),
        DelayedEnsemble(scope="trainable"),
    )


def test_a_trainer_knows_the_tuning_of_its_model(tmp_path):
    assert make(tmp_path, DENI(members=2)).strategy == DENI(members=2, scope="trainable")
