"""Fixtures: a chat server of our own, and an augmenter that asks it."""

from tests.helpers.chat_fixtures import llm, no_account, server

__all__ = ["llm", "no_account", "server"]
