"""The tables of a study as pandas frames: what the page, and the Markdown, LaTeX and CSV tables, show.

Scores are in points: 100 times what `deni.measures` gives. A frame begins with the strategy and its setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deni.analysis import rows
from deni.analysis.across_datasets import join_datasets
from deni.analysis.comparisons import Comparison, adjusted, compare, lead
from deni.analysis.ranks import Ranking, compute_rankings
from deni.analysis.results import RESULT, result_row, result_rows, run_rows
from deni.analysis.runs import WHERE, Group, Runs, mean_score
from deni.analysis.votes import COLUMNS as VOTES
from deni.analysis.votes import compute_votes
from deni.errors import InputError

Watch = Callable[[Sequence[Any]], Iterable[Any]]  # shows how far a loop is


@dataclass(frozen=True)
class Tables:
    """All frames of a study.

    Args:
        runs: what they are made of.
        baseline: the strategy that the others are compared with.
        resamples: of the bootstrap.
        results: a row for each strategy in each setting.
        each_run: a row for each run.
        comparisons: a row for each strategy and setting, against the baseline.
        against_baseline, leads: what they are made of; the highest mean of each setting against the other that is
            hardest to tell from it.
        overall: a row for each strategy over all datasets that share the rest of the setting; empty for one dataset.
        overall_comparisons: against the baseline, of the means over the datasets; spread in units of each dataset's.
        overall_against: what they are made of.
        votes: what members that vote would have scored with other votes; over all datasets, too.
        rankings: strategies over 15 datasets or more.
        mean_ranks: a row for each strategy of each of them; half a critical difference to either side.
        instability: how much the predictions of the seeds differ, and calibration.
        reliability: confidence and accuracy in bins.
        diversity: the members of each fork, mean over the runs.
        failures: cells without a result, and runs at chance, with reasons.
    """

    runs: Runs
    baseline: str
    resamples: int
    results: pd.DataFrame
    each_run: pd.DataFrame
    comparisons: pd.DataFrame
    against_baseline: Sequence[Comparison]
    leads: Sequence[Comparison]
    overall: pd.DataFrame
    overall_comparisons: pd.DataFrame
    overall_against: Sequence[Comparison]
    votes: pd.DataFrame
    rankings: Sequence[Ranking]
    mean_ranks: pd.DataFrame
    instability: pd.DataFrame
    reliability: pd.DataFrame
    diversity: pd.DataFrame
    failures: pd.DataFrame


def build_tables(runs: Runs, baseline: str | None = None, seed: int = 0, watch: Watch = iter) -> Tables:
    """Compute all frames.

    Args:
        baseline: a strategy as it is shown; None for `default`, or the cheapest.
        seed: of the bootstrap.
        watch: shows how far it is.

    Raises:
        InputError: no such strategy.
    """
    baseline = _baseline(runs, baseline)
    generator = np.random.default_rng(seed)
    groups = [group for group in runs.groups if group.blocks]
    # A test with R resamples has p-values from 1 / (R + 1) on; over many comparisons fewer must do.
    resamples = int(np.clip(1_000_000 // max(len(groups), 1), 1000, 5000))
    swaps = max(resamples, 40 * len(groups))
    best, pairs = [], []
    for setting in watch(runs.settings):
        by_score = sorted(runs.of(setting), key=mean_score, reverse=True)
        others = [
            (group, base) for base in by_score for group in by_score if base.strategy == baseline != group.strategy
        ]
        found = [compare(*pair, generator, resamples, swaps) for pair in others]
        pairs += [each for each in found if each is not None]
        if (leading_one := lead(by_score, generator, resamples)) is not None:
            best.append(leading_one)
    best, pairs, rankings = adjusted(best), adjusted(pairs), list(compute_rankings(runs))
    joined = list(join_datasets(runs))
    overall = adjusted(
        [each for joint_groups in joined for each in _overall(joint_groups, baseline, generator, resamples, swaps)]
    )
    first = [lead(sorted(joint_groups, key=mean_score, reverse=True), generator, resamples) for joint_groups in joined]
    above = {
        each.first.setting: each.first.strategy
        for each in adjusted([each for each in first if each is not None])
        if each.of_mean == "higher"
    }
    leading = {(each.first.setting, each.first.strategy) for each in best if each.of_mean == "higher"}
    return Tables(
        runs=runs,
        baseline=baseline,
        resamples=resamples,
        results=pd.DataFrame(result_rows(runs, leading, baseline)),
        each_run=pd.DataFrame([row for group in groups for row in run_rows(group)]),
        comparisons=pd.DataFrame([rows.comparison(each) for each in pairs], columns=[*WHERE, *rows.COMPARED]),
        against_baseline=pairs,
        leads=best,
        overall=pd.DataFrame(
            [
                result_row(group) | {"best": above.get(group.setting) == group.strategy}
                for joint_groups in joined
                for group in joint_groups
            ],
            columns=[*WHERE, *RESULT, "best"],
        ),
        overall_comparisons=pd.DataFrame([rows.comparison(each) for each in overall], columns=[*WHERE, *rows.COMPARED]),
        overall_against=overall,
        votes=pd.DataFrame(
            [
                group.where | row
                for group in [*groups, *(group for joint_groups in joined for group in joint_groups)]
                for row in compute_votes(group)
            ],
            columns=[*WHERE, *VOTES],
        ),
        rankings=rankings,
        mean_ranks=pd.DataFrame([row for each in rankings for row in rows.mean_ranks(each)], columns=list(rows.RANKED)),
        instability=pd.DataFrame([rows.instability(group) for group in groups]),
        reliability=pd.DataFrame(
            [row for group in groups for row in rows.reliability(group)],
            columns=[*WHERE, *rows.RELIABILITY],
        ),
        diversity=pd.DataFrame(
            [row for group in groups for row in rows.diversity(group)],
            columns=[*WHERE, *rows.FORKS],
        ),
        failures=pd.DataFrame(
            [row for group in runs.groups for row in rows.failures(group)],
            columns=[*WHERE, *rows.FAILED],
        ),
    )


def _overall(
    groups: Sequence[Group], baseline: str, generator: np.random.Generator, resamples: int, swaps: int
) -> Iterator[Comparison]:
    for base in groups:
        for group in groups:
            if base.strategy == baseline != group.strategy:
                found = compare(group, base, generator, resamples, swaps, scaled=True)
                if found is not None:
                    yield found


def _baseline(runs: Runs, named: str | None) -> str:
    known = [strategy for strategy in runs.strategies if any(g.blocks for g in runs.groups if g.strategy == strategy)]
    if named is not None:
        if named not in known:
            raise InputError(f"no run of a strategy {named!r} is done: choose one of {', '.join(known)}")
        return named
    costs = {name: np.mean([g.mean_of("member_steps") for g in runs.groups if g.strategy == name and g.blocks])
             for name in known}  # fmt: skip
    return "default" if "default" in known else min(known, key=lambda name: (np.isnan(costs[name]), costs[name]))
