"""With which flags `deni export` makes one model of an artifact that loads without `deni`."""

from __future__ import annotations

from typing import NamedTuple


class Export(NamedTuple):
    """Flags of `deni export`, and what they write."""

    flags: str
    written: str


def export_of(tuning: str, pooled: bool, pairs: str = "cross") -> Export | None:
    """The export of an artifact; None where `deni.load` and `deni predict` alone can use it.

    Args:
        tuning: its name.
        pooled: whether it pools, or normalizes, in a way that the class of the model does not.
        pairs: `cross` or `bi`, see `deni.recipe.Recipe`.

    >>> export_of("lora", pooled=False).flags
    '--as single'
    """
    if tuning == "unipelt" or pairs == "bi" or (tuning == "prompt" and pooled):
        return None
    if tuning == "prompt":
        return Export("--as single --adapter", "ordinary PEFT adapter")
    if pooled:
        return Export("--as sentence-transformers", "folder of sentence-transformers")
    return Export("--as single", "ordinary transformers model")
