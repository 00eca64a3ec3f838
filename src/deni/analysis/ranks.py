"""Mean ranks over the datasets of a study, with a critical difference: only from 15 datasets on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deni.analysis.across_datasets import group_settings
from deni.analysis.runs import Runs, mean_score
from deni.measures import LEAST_DATASETS, CriticalDifference, critical_difference


@dataclass(frozen=True)
class Ranking:
    """Strategies over datasets that share model, tuning and number of labeled examples.

    Args:
        label: what the datasets share.
        measure: the part that was measured on; one of what they share.
        datasets: how many.
        strategies: those that ran on all of them, at least 3.
        found: their mean ranks, Friedman's p-value and the critical difference.
    """

    label: str
    measure: str
    datasets: int
    strategies: list[str]
    found: CriticalDifference


def compute_rankings(runs: Runs) -> Iterator[Ranking]:
    """A ranking for each combination of model, tuning and number of labeled examples with enough datasets."""
    for label, settings in group_settings(runs).items():
        means = [{group.strategy: mean_score(group) for group in runs.of(each)} for each in settings]
        strategies = [name for name in runs.strategies if all(name in each for each in means)]
        if len(settings) >= LEAST_DATASETS and len(strategies) >= 3:
            scores = np.array([[each[name] for name in strategies] for each in means])
            yield Ranking(label, settings[0].measure, len(settings), strategies, critical_difference(scores))
