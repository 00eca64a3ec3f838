"""Fixtures: a chat server of our own."""

from tests.helpers.chat_fixtures import no_account, server

__all__ = ["no_account", "server"]
