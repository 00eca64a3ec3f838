"""How far the members of forks were apart, as the diagnostics of runs tell it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def summarize_forks(runs: Iterable[Sequence[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Disagreement and distance of the members at each fork and at its end, in percent, means over the runs.

    Independent runs that only vote have a row, too: at its end.

    Args:
        runs: of each, its forks in order, as `deni.training.fork_records.Record.summary` gives them.
    """
    told: dict[int, list[Mapping[str, Any]]] = {}
    for run in runs:
        for number, fork in enumerate(run, 1):
            told.setdefault(number, []).append(fork)
    for number, forks in told.items():
        yield {
            "fork": number,
            "step": forks[0]["step"],
            "stop": forks[0]["stop"],
            "members": forks[0]["members"],
            "ends_in": forks[0]["how"],
            "runs": len(forks),
            **{
                f"{what}_at_{name}": mean_of_known(100 * value for value in _values(forks, end, what))
                for what in ("disagreement", "distance")
                for name, end in (("fork", "start"), ("end", "end"))
            },
        }


def _values(forks: Iterable[Mapping[str, Any]], end: str, what: str) -> Iterator[float]:
    values = ((fork.get(end) or {}).get(what) for fork in forks)
    return (float(value) for value in values if value is not None)


def mean_of_known(values: Iterable[float]) -> float:
    """The mean of those values that are not NaN; NaN for none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
