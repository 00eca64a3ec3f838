"""Fixture: a hub of our own, which the client asks."""

import pytest

from tests.helpers.hub_client import TOKENS, client_of
from tests.helpers.hub_server import Hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with client_of(Hub(tokens=dict(TOKENS)), tmp_path / "cache", monkeypatch) as hub:
        yield hub
