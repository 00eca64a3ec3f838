"""Reads artifacts of format 1: fills in what they left to their version's strategy and tuning, as format 2 has it.

The tables here are of that version. They do not follow today's strategies, so that a renamed or removed one changes no
saved model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deni.tasks import DEFAULT

VOTING = ("ensemble", "delayed_ensemble", "deni", "denials")  # of several strategies at once, one of these decides
PADDED_FULLY = ("unipelt",)  # tunings with padding to `max_length`


def converted(info: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `deni.json` in format 1, as that of format 2.

    >>> converted({"strategy": {"name": "ensemble", "settings": {"members": 3, "combine": "hard"}}})["vote"]
    {'combine': 'hard'}
    """
    tuning = info.get("tuning", {}).get("name")
    max_length = info.get("max_length")
    fully = tuning in PADDED_FULLY and max_length is not None
    return {
        **info,
        "vote": {"combine": _combine(info.get("strategy", {}))},
        "engine": info.get("diagnostics", {}).get("engine", "stacked"),
        "task": info.get("task", DEFAULT),
        "max_length": max_length,
        "padding": "max_length" if fully else "longest",
        "text_pair_column": info.get("text_pair_column"),
    }


def _combine(strategy: Mapping[str, Any]) -> str:
    """How members vote, by the settings of a strategy or of several; the mean probability was the default of all."""
    settings: Mapping[str, Any] = strategy.get("settings", {})
    names = strategy.get("name", "default").split("+")
    if len(names) == 1:
        return settings.get("combine", "soft")
    parts = sorted(names, key=lambda name: (name not in VOTING, "combine" not in settings.get(name, {})))
    return settings.get(parts[0], {}).get("combine", "soft")
