"""Odd inputs for `fuzz.py`: whole ones, and what is done to them.

- `whole`: the inputs that are changed;
- `changes`, `code`: what is done to bytes, JSON values, tensors and files; code that must not be run;
- `folders`, `tables`, `stores`, `flags`, `commands`: kinds of input, each a function that makes a `Case`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from fuzzing import commands, flags, folders, stores, tables
from fuzzing.case import Case

# Each makes a case in a folder, from the whole inputs in another one.
KINDS: dict[str, Callable[[random.Random, Path, Path], Case]] = {
    "artifact": folders.artifact,
    "model": folders.model,
    "checkpoint": folders.checkpoint,
    "data": tables.data,
    "journal": tables.journal,
    "store": stores.store,
    "study": stores.study,
    "flags": flags.flags,
    **commands.KINDS,
}
WEIGHTS = {
    **{"artifact": 10, "model": 2, "checkpoint": 1, "data": 8, "journal": 5, "store": 3, "study": 5, "flags": 6},
    **dict.fromkeys(commands.KINDS, 1),
}
