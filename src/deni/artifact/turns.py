"""Threads take turns where they share a model or a tokenizer, both of which change while they compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import Lock, RLock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Method = TypeVar("Method", bound=Callable[..., Any])

_LOCKS: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # not attributes: what has a lock cannot be copied or pickled
_MAKING = Lock()


def in_turn(name: str) -> Callable[[Method], Method]:
    """One thread at a time calls a method, of all objects that share what is meant.

    Args:
        name: of the attribute with what is shared; where there is none, the object itself.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def wrapped(self: Any, *args: Any, **options: Any) -> Any:
            with _lock_of(vars(self).get(name, self)):
                return method(self, *args, **options)

        return wrapped  # type: ignore[return-value]

    return decorate


def _lock_of(shared: Any) -> Any:
    with _MAKING:
        return _LOCKS.setdefault(shared, RLock())
