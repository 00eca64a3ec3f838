"""The figure of the schedule is the schedule's."""

import re
from xml.etree import ElementTree

import pytest

from deni.schedule import Phase, Schedule
from deni.strategies import make_strategy
from tests.helpers.scripts import script

figure = script("website/schedule.py")
SVG = "{http://www.w3.org/2000/svg}"


def drawn(schedule):
    return ElementTree.fromstring(figure.draw(schedule))


def test_the_figure_of_the_documentation_is_that_of_todays_schedule():
    assert figure.FIGURE.read_text(encoding="utf-8") == figure.draw(make_strategy("deni").schedule(1250))


def test_a_line_for_each_member_of_each_phase_from_its_first_step_to_its_last():
    svg = drawn(Schedule.of([Phase(2, 4, members=3), Phase(8, 10, members=4, merge=False)], steps=10))
    lines = [each.get("d") for each in svg.iter(f"{SVG}path") if "member" in each.get("class")]
    starts = [float(re.match(r"M([\d.]+)", line)[1]) for line in lines]
    width = figure.WIDTH - figure.LEFT - figure.RIGHT
    assert [round(10 * (start - figure.LEFT) / width, 3) for start in starts] == [0] + 3 * [2] + [4] + 4 * [8]
    assert len({line.partition("L")[2] for line in lines[1:4]}) == 3  # three lanes
    assert len(list(svg.iter(f"{SVG}circle"))) == 4  # who votes


def test_words_say_what_happens_and_what_it_costs():
    svg = drawn(make_strategy("deni").schedule(1250))
    words = [each.text for each in svg.iter(f"{SVG}text")]
    assert [each for each in words if each in ("fork", "merge", "vote")] == ["fork", "merge"] * 2 + ["fork", "vote"]
    assert "4625 member-steps, 37 % of an ensemble of ten" in words


@pytest.mark.parametrize("name", ["default", "delayed_ensemble", "noisy_interpolation"])
def test_other_strategies_have_a_figure_too(name):
    schedule = make_strategy(name).schedule(100)
    paths = [each for each in drawn(schedule).iter(f"{SVG}path") if "member" in each.get("class")]
    assert len(paths) == sum(phase.members for phase in schedule)
