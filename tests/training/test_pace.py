import pytest

from deni.data import read_texts
from deni.finetune import fine_tune
from deni.recipe import Recipe
from deni.strategies import STRATEGIES, make_strategy
from deni.training.pace import Pace


@pytest.mark.parametrize("name", ["default", "deni", "delayed_ensemble", "noisy_interpolation", "ensemble"])
def test_where_a_member_step_always_takes_as_long_the_time_left_never_jumps(name):
    schedule = STRATEGIES[name]().schedule(1250)
    pace, elapsed = Pace(schedule), 0.0
    total = 0.02 * schedule.cost / schedule.runs
    for step in range(1250):
        seconds = 0.02 * schedule.at(step).members
        pace.note(step, seconds)
        elapsed += seconds
        assert elapsed + pace.seconds_left(step + 1) == pytest.approx(total)
    assert pace.seconds_left(1250) == 0


def test_before_a_step_nothing_is_known():
    assert Pace(make_strategy("deni").schedule(1250)).seconds_left(0) is None


def test_member_steps_are_those_of_the_phases():
    pace = Pace(make_strategy("deni").schedule(1250))  # 1x375 10x125 1x125 10x125 1x375 10x125
    assert [pace.member_steps(done) for done in (0, 375, 376, 500, 1125, 1250)] == [0, 375, 385, 1625, 3375, 4625]
    assert Pace(make_strategy("ensemble").schedule(1250)).member_steps(3) == 30


@pytest.fixture
def logged(monkeypatch, model_folder, tickets, capsys):
    """The lines of a log of a training, one for each step."""
    monkeypatch.setattr("deni.progress.EVERY", 0)
    monkeypatch.setattr("deni.progress.SHARE", 0)

    def train(**settings):
        plan = Recipe.of(None, "deni", model=model_folder, epochs=2, strategy_settings={"members": 3})
        done = fine_tune(read_texts(tickets), plan, **settings)
        return done, capsys.readouterr().err

    return train


def test_the_log_of_a_training_has_plain_lines_of_one_kind(logged):
    done, text = logged()
    steps = done.schedule.steps
    lines = text.splitlines()
    assert "\r" not in text
    assert [line.split()[1] for line in lines] == ["train:"] * len(lines)
    assert [line.split(" step ")[1].split(",")[0] for line in lines[:steps]] == [
        f"{step}/{steps}" for step in range(1, steps + 1)
    ]
    assert "members 3" in lines[steps - 1]
    assert lines[-1].endswith("0:00 left")


def test_without_progress_nothing_is_said(logged):
    assert logged(progress=False)[1] == ""
