"""Pandas frames from the runs of a store: what the page, and the Markdown, LaTeX and CSV tables, show.

Scores are in points: 100 times what `deni.measures` gives. A frame begins with the strategy and its setting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deni.analysis.across_datasets import over_datasets
from deni.analysis.comparisons import ALPHA, Comparison, adjusted, compare, lead
from deni.analysis.ranks import Ranking, rankings_of
from deni.analysis.runs import SCORES, Group, Runs, Setting, mean_score
from deni.analysis.votes import COLUMNS as VOTES
from deni.analysis.votes import votes_of
from deni.errors import InputError
from deni.measures import (
    gain_per_step,
    mean_interval,
    pareto_front,
    sd_interval,
)

Watch = Callable[[Sequence[Any]], Iterable[Any]]  # shows how far a loop is
NAN = float("nan")
WHERE = ("strategy", "dataset", "model", "tuning", "labelled", "other")


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


def tables_of(runs: Runs, baseline: str | None = None, seed: int = 0, watch: Watch = iter) -> Tables:
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
        there = sorted(runs.of(setting), key=mean_score, reverse=True)
        others = [(group, base) for base in there for group in there if base.strategy == baseline != group.strategy]
        found = [compare(*pair, generator, resamples, swaps) for pair in others]
        pairs += [each for each in found if each is not None]
        if (leading_one := lead(there, generator, resamples)) is not None:
            best.append(leading_one)
    best, pairs, rankings = adjusted(best), adjusted(pairs), list(rankings_of(runs))
    joined = list(over_datasets(runs))
    overall = adjusted([each for some in joined for each in _overall(some, baseline, generator, resamples, swaps)])
    first = [lead(sorted(some, key=mean_score, reverse=True), generator, resamples) for some in joined]
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
        results=_results(runs, leading, baseline),
        each_run=pd.DataFrame([row for group in groups for row in _each_run(group)]),
        comparisons=pd.DataFrame([_comparison(each) for each in pairs], columns=[*WHERE, *_COMPARED]),
        against_baseline=pairs,
        leads=best,
        overall=pd.DataFrame(
            [
                _result(group) | {"best": above.get(group.setting) == group.strategy}
                for some in joined
                for group in some
            ],
            columns=[*WHERE, *_RESULT, "best"],
        ),
        overall_comparisons=pd.DataFrame([_comparison(each) for each in overall], columns=[*WHERE, *_COMPARED]),
        overall_against=overall,
        votes=pd.DataFrame(
            [
                where(group.setting, group.strategy) | row
                for group in [*groups, *(group for some in joined for group in some)]
                for row in votes_of(group)
            ],
            columns=[*WHERE, *VOTES],
        ),
        rankings=rankings,
        mean_ranks=pd.DataFrame([row for each in rankings for row in _mean_ranks(each)], columns=list(_RANKED)),
        instability=pd.DataFrame([_instability(group) for group in groups]),
        reliability=pd.DataFrame(
            [row for group in groups for row in _reliability(group)],
            columns=[*WHERE, "confidence", "accuracy", "share"],
        ),
        diversity=pd.DataFrame([row for group in groups for row in _diversity(group)], columns=[*WHERE, *_FORKS]),
        failures=pd.DataFrame([row for group in runs.groups for row in _failures(group)], columns=[*WHERE, *_FAILED]),
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


def where(setting: Setting, strategy: str) -> dict[str, Any]:
    """The columns `WHERE`."""
    return dict(zip(WHERE, (strategy, *setting.key), strict=True))


# ---- scores ----------------------------------------------------------------------------------------------------------


def _results(runs: Runs, leading: set[tuple[Setting, str]], baseline: str) -> pd.DataFrame:
    rows = []
    for setting in runs.settings:
        groups = runs.of(setting)
        ranks = pd.Series([-mean_score(group) for group in groups]).rank()
        some = [_result(group) | {"rank": rank} for group, rank in zip(groups, ranks, strict=True)]
        for name, of, low in (("pareto_mean", "mean", False), ("pareto_sd", "sd", True)):
            front = _front([row["member_steps"] for row in some], [row[of] for row in some], low)
            some = [row | {name: bool(on)} for row, on in zip(some, front, strict=True)]
        some = [row | own for row, own in zip(some, _gains(some, baseline), strict=True)]
        rows += [row | {"best": (setting, group.strategy) in leading} for row, group in zip(some, groups, strict=True)]
    return pd.DataFrame(rows)


def _front(cost: Sequence[float], value: Sequence[float], low: bool) -> np.ndarray:
    """The Pareto front of those whose cost and value are known."""
    known = np.isfinite(cost) & np.isfinite(value)
    front = np.zeros(len(known), dtype=bool)
    if known.any():
        front[known] = pareto_front(np.array(cost)[known], np.array(value)[known], lower_is_better=low)
    return front


def _gains(some: Sequence[Mapping[str, Any]], baseline: str) -> list[dict[str, float]]:
    """Gain in the mean and drop in the SD for each cost of the baseline in extra member-steps; NaN where none are."""
    columns = np.array([[row[name] for name in ("member_steps", "mean", "sd")] for row in some], dtype=np.float64).T
    known: list[int] = np.flatnonzero(np.isfinite(columns).all(0) & (columns[0] > 0)).tolist()
    found = np.full((2, len(some)), NAN)
    base = [place for place, at in enumerate(known) if some[at]["strategy"] == baseline]
    if base:
        cost, mean, sd = columns[:, known]
        found[:, known] = gain_per_step(cost, mean, sd, base[0])
        found *= cost[base[0]]
    return [{"gain_per_baseline": gain, "drop_per_baseline": drop} for gain, drop in found.T.tolist()]


_RESULT = (
    *("score", "seeds", "blocks", "texts", "no_result", "at_chance", "mean", "mean_low", "mean_high"),
    *("sd", "sd_low", "sd_high", "worst", "member_steps", "seconds", "tflops"),
)


def _result(group: Group) -> dict[str, Any]:
    several = [block for block in group.blocks if len(block.scores) > 1]
    mean, sd = (NAN, NAN), (NAN, NAN, NAN)
    if several:
        scores = np.concatenate([block.scores for block in several])
        blocks = np.repeat([block.number for block in several], [len(block.scores) for block in several])
        mean = mean_interval(scores, blocks=blocks)[1:]
        sd = sd_interval(scores, blocks=blocks)
    texts = sorted({block.texts for block in group.blocks})
    return {
        **where(group.setting, group.strategy),
        "score": SCORES[group.setting.task],
        "seeds": len(group.scores),
        "blocks": len(group.blocks),
        "texts": texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}",
        "no_result": len(group.failed),
        "at_chance": int(group.at_chance.sum()),
        "mean": 100 * mean_score(group),
        **_points("mean", *mean),
        "sd": 100 * float(sd[0]),
        **_points("sd", *sd[1:]),
        "worst": 100 * float(group.scores.min()),
        "member_steps": group.mean_of("member_steps"),
        "seconds": group.mean_of("seconds"),
        "tflops": group.mean_of("flops") / 1e12,
    }


def _points(name: str, low: float, high: float) -> dict[str, float]:
    return {f"{name}_low": 100 * float(low), f"{name}_high": 100 * float(high)}


def _each_run(group: Group) -> Iterator[dict[str, Any]]:
    for block in group.blocks:
        for row, score in zip(block.rows, block.scores, strict=True):
            yield {
                **where(group.setting, group.strategy),
                "block": block.number,
                "seed": row.cell.seed,
                "points": 100 * float(score),
                "at_chance": bool(score <= block.chance),
            }


# ---- comparisons -----------------------------------------------------------------------------------------------------

_COMPARED = (
    *("baseline", "pairs", "blocks", "difference", "low", "high", "p_mean", "mean_shown", "sd_ratio"),
    *("sd_ratio_low", "sd_ratio_high", "p_sd", "sd_shown"),
)


def _comparison(each: Comparison) -> dict[str, Any]:
    ratio = (NAN, NAN, NAN) if each.spread is None else tuple(map(float, each.spread[:3]))
    return {
        **where(each.first.setting, each.first.strategy),
        "baseline": each.second.strategy,
        "pairs": each.pairs,
        "blocks": each.blocks,
        "difference": 100 * each.difference,
        "low": 100 * each.low,
        "high": 100 * each.high,
        "p_mean": each.p_mean,
        "mean_shown": each.of_mean,
        "sd_ratio": ratio[0],
        "sd_ratio_low": ratio[1],
        "sd_ratio_high": ratio[2],
        "p_sd": each.p_spread,
        "sd_shown": each.of_spread,
    }


_RANKED = ("strategy", "over", "datasets", "mean_rank", "low", "high", "p_value")


def _mean_ranks(ranking: Ranking) -> Iterator[dict[str, Any]]:
    half = ranking.found.difference / 2
    for strategy, rank in zip(ranking.strategies, ranking.found.ranks, strict=True):
        ends = (float(rank), float(rank) - half, float(rank) + half)
        values = (strategy, ranking.label, ranking.datasets, *ends, ranking.found.p_value)
        yield dict(zip(_RANKED, values, strict=True))


# ---- predictions -----------------------------------------------------------------------------------------------------


def _instability(group: Group) -> dict[str, Any]:
    """Means over the blocks."""
    found = [block.measured for block in group.blocks if block.measured is not None]
    return {
        **where(group.setting, group.strategy),
        "disagreement": _mean(100 * each.disagreement for each in found),
        "kappa": _mean(each.kappa for each in found),
        "jsd": _mean(each.jsd for each in found),
        "ece": _mean(100 * each.ece for each in found),
        "brier": _mean(each.brier for each in found),
        "nll": _mean(each.nll for each in found),
    }


def _mean(values: Iterable[float]) -> float:
    """Mean of those that are known."""
    each = [value for value in values if not np.isnan(value)]
    return float(np.mean(each)) if each else NAN


def _reliability(group: Group) -> Iterator[dict[str, Any]]:
    """Of all runs together: confidence and accuracy of each bin that has texts; blocks count equally."""
    found = [block.measured.reliability for block in group.blocks if block.measured is not None]
    if not found:
        return
    share, confidence, accuracy = (np.stack(each) for each in zip(*found, strict=True))  # (B, bins)
    for place, total in enumerate(share.sum(0)):
        if total > 0:
            weights = share[:, place] / total
            yield {
                **where(group.setting, group.strategy),
                "confidence": 100 * float(weights @ confidence[:, place]),
                "accuracy": 100 * float(weights @ accuracy[:, place]),
                "share": 100 * float(total / len(share)),
            }


# ---- members ---------------------------------------------------------------------------------------------------------

_FORKS = (
    *("fork", "step", "stop", "members", "ends_in", "runs", "disagreement_at_fork", "disagreement_at_end"),
    *("distance_at_fork", "distance_at_end"),
)


def _diversity(group: Group) -> Iterator[dict[str, Any]]:
    named = where(group.setting, group.strategy)
    return (named | row for row in forks_of(row.diagnostics.get("forks", []) for row in group.rows))


def forks_of(runs: Iterable[Sequence[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """What the diagnostics of runs say of each fork, or of independent runs that vote; in percent, means over the runs.

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
                f"{what}_at_{name}": _mean(100 * value for value in _measured(forks, end, what))
                for what in ("disagreement", "distance")
                for name, end in (("fork", "start"), ("end", "end"))
            },
        }


def _measured(forks: Iterable[Mapping[str, Any]], end: str, what: str) -> Iterator[float]:
    values = ((fork.get(end) or {}).get(what) for fork in forks)
    return (float(value) for value in values if value is not None)


# ---- failures --------------------------------------------------------------------------------------------------------

_FAILED = ("block", "seed", "what", "points", "reason")


def _failures(group: Group) -> Iterator[dict[str, Any]]:
    named = where(group.setting, group.strategy)
    for row in group.failed:
        yield named | _failure(row, "no result", NAN, row.reason)
    for block in group.blocks:
        for row, score in zip(block.rows, block.scores, strict=True):
            if score <= block.chance:
                reason = f"no better than the majority class ({100 * block.chance:.1f})"
                yield named | _failure(row, "at chance", 100 * float(score), reason)
            for member in row.diagnostics.get("failed_runs", []):
                yield named | _failure(row, "a member failed", 100 * float(score), str(member))


def _failure(row: Any, what: str, points: float, reason: str) -> dict[str, Any]:
    values = (row.cell.block, row.cell.seed, what, points, reason)
    return dict(zip(_FAILED, values, strict=True))


__all__ = ["ALPHA", "WHERE", "Tables", "mean_score", "tables_of", "where"]
