import pytest

from deni.strategies import STRATEGIES
from deni.tuning import TUNINGS


@pytest.fixture
def nothing_registered():
    """Neither strategies nor tunings."""
    before = [(table, dict(table)) for table in (STRATEGIES, TUNINGS)]
    for table, _ in before:
        table.clear()
    yield
    for table, entries in before:
        table.update(entries)
