"""What a user's subclass of the trainer does in its own way."""

from __future__ import annotations

from typing import Any


def overridden(cls: type[Any], base: type[Any], *names: str) -> bool:
    """Whether a class has any of these methods from elsewhere than its base class."""
    return any(getattr(cls, name) is not getattr(base, name) for name in names)
