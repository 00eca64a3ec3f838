import io
import re

import pytest

from deni import progress
from deni.progress import ProgressBar, clock, track


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    @staticmethod
    def strftime(_):
        return "12:00:00"


@pytest.fixture
def passing(monkeypatch):
    """Time that passes when it is told to."""
    own = Clock()
    monkeypatch.setattr(progress, "time", own)
    return own


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(seconds, passing, step=1):
    log = io.StringIO()
    with ProgressBar("train", seconds // step, unit="steps", file=log) as bar:
        for _ in range(seconds // step):
            passing.now += step
            bar.advance()
    return log.getvalue().splitlines()


def test_a_log_has_a_line_every_five_seconds_with_the_time_left(passing):
    assert lines_of(12, passing) == [
        "12:00:00 train: 5/12 steps, 0:07 left",
        "12:00:00 train: 10/12 steps, 0:02 left",
        "12:00:00 train: 12/12 steps, 0:00 left",
    ]


def test_what_is_done_in_seconds_leaves_no_line_in_a_log(passing):
    assert lines_of(4, passing) == []


def test_the_log_of_eight_hours_is_short(passing):
    assert len(lines_of(8 * 3600, passing, step=2)) < 400


def test_what_was_done_before_does_not_count_as_fast(passing):
    log = io.StringIO()
    bar = ProgressBar("train", 100, done=90, file=log)
    passing.now += 10
    bar.update(95)
    assert log.getvalue() == "12:00:00 train: 95/100 texts, 0:10 left\n"


def test_nothing_is_shown_unless_asked_for(passing, capsys):
    with ProgressBar("train", 2, shown=False) as bar:
        passing.now += 60
        bar.update(2)
        bar.say("failed")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_one_bar_that_vanishes_and_lines_above_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    with ProgressBar("train", 4, unit="steps", file=screen) as bar:
        bar.update(3, "step 3/4, loss 0.5", seconds_left=47)
        bar.say("failed: seed [1]")
        bar._live.refresh()
    text = screen.getvalue()
    assert re.search(r"train .*step 3/4, loss 0\.5.* 0:47 left", text)
    assert "failed: seed [1]\n" in text
    assert text.endswith("\x1b[2K")  # the line of the bar is cleared


def test_things_are_given_one_by_one_and_counted(passing, capsys):
    def slow():
        for thing in "abc":
            passing.now += 6
            yield thing

    assert list(track(slow(), "read", total=3, unit="files")) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        f"12:00:00 read: {at}/3 files, {clock(6 * (3 - at))} left" for at in (1, 2, 3)
    ]
