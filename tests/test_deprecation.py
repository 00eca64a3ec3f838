"""Old names work for a while, and warn once."""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import pytest

from deni import deprecation
from deni.deprecation import Renamed, deprecate, renamed_settings
from deni.errors import DeprecatedWarning
from deni.settings import make
from deni.strategies import DENI, make_strategy

RENAMES = {"replicas": Renamed("members", "9.0")}


@pytest.fixture(autouse=True)
def nothing_warned(monkeypatch):
    monkeypatch.setattr(deprecation, "_warned", set())


def test_it_says_what_goes_when_and_what_to_use_at_the_callers_line():
    def old():
        deprecate("old()", "new()", "9.0")

    with pytest.warns(DeprecatedWarning) as caught:
        old()
    (warning,) = caught
    assert str(warning.message) == "old() is deprecated and goes in deni 9.0: use new()"
    assert warning.filename == __file__


def test_it_warns_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            deprecate("old()", "new()", "9.0")
        deprecate("older()", "new()", "9.0")
    assert len(caught) == 2


def test_an_old_setting_is_read_under_its_new_name():
    with pytest.warns(DeprecatedWarning, match="the setting 'replicas' of strategy deni .* 9.0: use 'members'"):
        assert renamed_settings("strategy deni", RENAMES, {"replicas": 3, "shift": 1}) == {"shift": 1, "members": 3}


def test_a_setting_that_is_not_given_does_not_warn(recwarn):
    assert renamed_settings("strategy deni", RENAMES, {"replicas": None, "members": 2}) == {"members": 2}
    assert not recwarn


def test_both_names_at_once_are_refused():
    with pytest.raises(ValueError, match="'members' and its old name 'replicas' at once: give 'members' alone"):
        renamed_settings("strategy deni", RENAMES, {"replicas": 3, "members": 2})


@pytest.mark.parametrize("name", ["deni", "best_practices+deni"])
def test_a_strategy_is_made_from_an_old_setting(monkeypatch, name):
    monkeypatch.setattr(DENI, "renamed", RENAMES)
    with pytest.warns(DeprecatedWarning, match="use 'members'"):
        assert make_strategy(name, replicas=3) == make_strategy(name, members=3)


def test_what_is_made_from_a_table_takes_old_settings():
    @dataclass(frozen=True)
    class Tool:
        renamed: ClassVar = {"length": Renamed("size", "9.0")}
        size: int = 1

    with pytest.warns(DeprecatedWarning, match="use 'size'"):
        assert make("tool", {"tool": Tool}, "tool", {"length": 5}) == Tool(5)
