"""Which steps train how many members."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deni.noise import Noise
from deni.schedule import Fork, Phase, Schedule
from deni.strategies import ALIASES, PRESETS, STRATEGIES, make_strategy


@given(
    name=st.sampled_from(sorted({*STRATEGIES} - {"auto"})),
    preset=st.sampled_from([None, *PRESETS]),
    steps=st.integers(1, 3000),
)
def test_phases_tile_the_steps_or_one_line_says_why_not(name, preset, steps):
    try:
        schedule = make_strategy(name, preset=preset).tiled(steps)
    except ValueError as error:
        assert str(error)
        assert "\n" not in str(error)
        return
    assert [step for phase in schedule for step in range(phase.start, phase.stop)] == list(range(steps))
    assert schedule.steps == steps
    assert schedule.cost == schedule.runs * schedule.passes * sum(schedule.at(step).members for step in range(steps))


@pytest.mark.parametrize(
    ("name", "cost"),
    [("default", 1250), ("ensemble", 12500), ("de", 2375), ("ni", 3500), ("deni", 4625)],
)
def test_strategies_cost_what_the_paper_spends(name, cost):
    assert make_strategy(name).schedule(1250).cost == cost


def test_deni_prints_the_schedule_of_the_paper():
    schedule = make_strategy("deni").schedule(1250)
    assert str(schedule) == "1x375 10x125 1x125 10x125 1x375 10x125"
    assert (schedule.peak, len(schedule), schedule[1].start) == (10, 6, 375)


def test_the_released_code_forks_one_step_earlier():
    schedule = make_strategy("deni", preset="released").schedule(1250)
    assert str(schedule) == "1x374 10x125 1x125 10x125 1x375 10x126"
    assert schedule.cost == 4634


def test_interpolation_noise_fades_and_ensemble_noise_does_not():
    forked = [phase for phase in make_strategy("deni").schedule(1250) if phase.members > 1]
    assert [phase.fork.noise.variance for phase in forked] == [0.15 / 375, 0.15 / 625, 0.15]
    assert [phase.merge for phase in forked] == [True, True, False]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"members": 0}, "members"),
        ({"variance": -0.1}, "variance"),
        ({"variance": float("nan")}, "variance"),
        ({"floor": float("nan")}, "floor"),
        ({"floor": -1.0}, "floor"),
        ({"scale": "large"}, "scale"),
        ({"scope": "tail"}, "scope"),
        ({"shift": -1}, "shift"),
        ({"combine": "loud"}, "combine"),
        ({"fork_rate": "fast"}, "fork_rate"),
        ({"merge_lora": "sum"}, "merge_lora"),
        ({"ensemble_from": 1.5}, "ensemble_from"),
        ({"together": float("nan")}, "together"),
    ],
)
def test_a_bad_value_is_refused_by_name(settings, word):
    with pytest.raises(ValueError, match=word):
        make_strategy("deni", **settings)


@pytest.mark.parametrize(
    "phases",
    [
        [Phase(2, 4, 3), Phase(3, 5, 3)],
        [Phase(4, 8, 3)],
        [Phase(1, 3, 3, merge=False)],
    ],
)
def test_phases_that_do_not_fit_are_refused(phases):
    with pytest.raises(ValueError, match="phase"):
        Schedule.of(phases, steps=6)


@pytest.mark.parametrize(
    "bad", [{"start": 3, "stop": 3}, {"start": -1, "stop": 2}, {"start": 0, "stop": 1, "members": 0}]
)
def test_an_empty_phase_is_refused(bad):
    with pytest.raises(ValueError, match=r"step|members"):
        Phase(**bad)


def test_a_run_without_steps_is_refused():
    with pytest.raises(ValueError, match="at least one optimizer step"):
        make_strategy("default").schedule(0)


def test_a_later_step_belongs_to_the_last_phase():
    schedule = make_strategy("de", members=2).schedule(10)
    assert schedule.at(99) is schedule[-1]
    assert schedule.at(8).members == 1


def test_a_fork_is_a_value():
    assert dataclasses.replace(Fork(noise=Noise(variance=0.2)), noise=Noise(variance=0.0)) == Fork()
    assert set(ALIASES.values()) <= set(STRATEGIES)
