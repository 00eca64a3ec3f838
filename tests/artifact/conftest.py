import pytest

from deni.registry import Registry
from deni.strategies import STRATEGIES
from deni.tuning import TUNINGS
from tests.helpers.hub_fixtures import hub

__all__ = ["hub", "nothing_registered"]


@pytest.fixture
def nothing_registered(monkeypatch):
    """Neither strategies nor tunings: looking one up fails."""
    find = Registry.__getitem__

    def lookup(self, name):
        if self is STRATEGIES or self is TUNINGS:
            raise KeyError(name)
        return find(self, name)

    monkeypatch.setattr(Registry, "__getitem__", lookup)
    with pytest.raises(KeyError):
        STRATEGIES["deni"]
