"""What holds for every strategy."""

import dataclasses
import json

import pytest

from deni.strategies import ALIASES, PRESETS, STRATEGIES, make_strategy


@pytest.mark.parametrize("preset", [None, *PRESETS])
@pytest.mark.parametrize("name", [*STRATEGIES, *ALIASES])
def test_settings_survive_json(name, preset):
    strategy = make_strategy(name, preset=preset)
    again = make_strategy(name, **json.loads(json.dumps(strategy.settings())))
    assert again == strategy


def test_a_strategy_is_returned_as_it_is():
    strategy = make_strategy("deni", members=3)
    assert make_strategy(strategy) is strategy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "magic"}, "unknown strategy 'magic': choose from default"),
        ({"name": "deni", "speed": 3}, "strategy deni has no setting 'speed': it has "),
        ({"name": "default", "members": 3}, "strategy default has no setting 'members': it has none"),
        ({"name": "deni", "preset": "secret"}, "unknown preset 'secret': choose from paper, released"),
        ({"name": "ensemble", "members": 0}, "members must be at least 1, not 0"),
    ],
)
def test_what_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_strategy(**arguments)


def test_a_setting_of_none_is_the_default():
    assert make_strategy("deni", members=None) == make_strategy("deni")


def test_presets_differ_as_the_paper_and_the_released_code_do():
    paper, released = make_strategy("deni", preset="paper"), make_strategy("deni", preset="released")
    assert dataclasses.asdict(paper) == {
        **dataclasses.asdict(make_strategy("deni")),
        "combine": "hard",
        "variance": 0.15,
    }
    assert released.variance == 0.15
    assert (released.fork_optimizer, released.fork_rate, released.combine, released.shift) == (
        "fresh",
        "constant",
        "parent",
        1,
    )
    assert make_strategy("deni", preset="released", combine="soft").combine == "soft"


@pytest.mark.parametrize("name", STRATEGIES)
def test_members_vote_by_the_mean_probability_unless_told_otherwise(name):
    assert make_strategy(name).combine == "soft"
    assert make_strategy(name).runs == (10 if name == "ensemble" else 1)


@pytest.mark.parametrize(
    ("names", "settings", "combine"),
    [
        ("best_practices+ensemble", {"combine": "hard"}, "hard"),
        ("ensemble+noisy_interpolation", {"noisy_interpolation": {"combine": "hard"}}, "soft"),  # one of them votes
        ("noisy_interpolation+best_practices", {"combine": "parent"}, "parent"),
        ("augmentation+swa", {"augmented": "texts.csv"}, "soft"),
    ],
)
def test_of_several_strategies_the_one_that_votes_says_how(names, settings, combine):
    assert make_strategy(names, **settings).combine == combine
