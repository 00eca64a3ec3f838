"""Importing large libraries in less time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Inside, the garbage collector is off; it never looks at what was imported there.

    Modules make a million objects that live as long as the process. To look for garbage among them, again and again,
    is a fifth of the time that torch and transformers take to import.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
