"""Fixture: a hub of our own."""

from tests.helpers.hub_fixtures import hub

__all__ = ["hub"]
