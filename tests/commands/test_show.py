import pytest

from deni.auto import decide
from deni.commands.show import show_auto
from deni.commands.train import train_file
from deni.data import read_data
from deni.errors import SettingError
from deni.recipe import Recipe
from deni.strategies import Default


def test_the_plan_is_what_a_training_does(model_folder, tickets, tmp_path):
    recipe, seen = Recipe(model=model_folder, epochs=1), []
    plan = show_auto(tickets, recipe=recipe, labelled=20, test="0.25")
    done = train_file(
        tickets,
        recipe=recipe,
        labelled=20,
        test="0.25",
        output=tmp_path / "model",
        progress=False,
        on_recipe=seen.append,
    )
    assert plan.chosen == done.result.recipe.chosen == done.result.info()["auto"]
    assert plan.chosen["facts"]["examples"] == 20
    assert plan.member_steps == done.result.member_steps == 3
    assert seen == [done.result.recipe]
    assert plan.to_json() == {**plan.chosen, "member_steps": 3}


def test_all_texts_are_counted_where_none_is_held_out(model_folder, tickets):
    plan = show_auto(tickets, recipe=Recipe(model=model_folder), test="0")
    assert plan.chosen == decide(Recipe(model=model_folder), read_data(tickets)).chosen


def test_another_strategy_has_nothing_to_choose(model_folder, tickets):
    with pytest.raises(SettingError, match="the strategy is default, so auto has nothing to choose"):
        show_auto(tickets, recipe=Recipe(model=model_folder, strategy=Default()))
