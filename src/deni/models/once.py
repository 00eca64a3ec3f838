"""Answers that are kept while a plan is made: what a study's models are is read once, not for each of its cells."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# None outside a plan: a folder may hold another model at the next command of the same process.
_KEPT: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def kept_answers() -> Iterator[None]:
    """Keep the answers of functions that are `answered_once` until the end; one inside another shares its answers."""
    token = _KEPT.set({}) if _KEPT.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _KEPT.reset(token)


def answered_once(function: Callable[P, T]) -> Callable[P, T]:
    """The function, asked once for the same arguments inside `kept_answers`, and each time elsewhere.

    What it returns is shared: nobody may change it.

    >>> asked = []
    >>> square = answered_once(lambda x: asked.append(x) or [x * x])
    >>> with kept_answers():
    ...     square(3), square(3)
    ([9], [9])
    >>> square(3), asked
    ([9], [3, 3])
    """

    @functools.wraps(function)
    def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        kept = _KEPT.get()
        if kept is None:
            return function(*args, **kwargs)
        asked = function, args, tuple(sorted(kwargs.items()))
        if asked not in kept:
            kept[asked] = function(*args, **kwargs)
        answered: T = kept[asked]
        return answered

    return answer
