import pytest

from deni.errors import SettingError
from deni.schedule import Schedule
from deni.strategies import DENI, SWA, Auto, make_strategy
from tests.helpers.trainers import make


def test_a_trainer_refuses_it_in_one_line(tmp_path):
    with pytest.raises(SettingError, match=r"auto is chosen by deni\.auto\.decide") as caught:
        make(tmp_path, Auto())
    assert "\n" not in str(caught.value)


def test_it_is_not_combined():
    for other in (DENI(), SWA()):
        with pytest.raises(SettingError, match="auto chooses what trains"):
            other + Auto()
    with pytest.raises(SettingError, match="auto chooses what trains"):
        make_strategy("auto+deni")


def test_it_trains_nothing_by_itself():
    assert Auto().schedule(100) == Schedule(())
    assert Auto().settings() == {}
