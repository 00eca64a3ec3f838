"""Fixtures: a study of support tickets, and a chat server of our own."""

import pytest

from tests.helpers.chat_fixtures import no_account, server
from tests.helpers.studies import writer

__all__ = ["no_account", "server"]


@pytest.fixture
def study(tmp_path, tickets, model_folder):
    """A function that writes a study of tickets, with what it is given, and returns its path."""
    return writer(tmp_path / "study.yaml", tickets, model_folder)
