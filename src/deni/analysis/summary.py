"""A study in at most five sentences: who leads, who is steadiest, at what cost, what is not known.

A baseline that costs money adds its price.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from deni.analysis.tables import Tables
from deni.baselines import BASELINES, is_baseline
from deni.measures import LEAST_SEEDS

MOST = 5  # sentences
NAMED = 4  # strategies that a sentence names; of more, how many


def summarize(tables: Tables) -> list[str]:
    """The sentences to read first; every one is about these runs alone."""
    if len(tables.runs.strategies) == 1:
        return [*_alone(tables), _limits(tables), *_of_baselines(tables)]
    leader, steadiest = _first(tables, "mean"), _first(tables, "sd")
    found = [_leads(tables, leader), *_steadiest(tables, steadiest), *_cost(tables, leader, steadiest)]
    return [*[*found, *_open(tables), _limits(tables)][:MOST], *_of_baselines(tables)]


def _rows(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Results and comparisons to speak of, and where: over all datasets where there is one such table, else each."""
    over = tables.overall.groupby(["model", "tuning", "labeled", "other"]).ngroups if len(tables.overall) else 0
    if over == 1 and tables.results[["model", "tuning", "labeled", "other"]].drop_duplicates().shape[0] == 1:
        return tables.overall, tables.overall_comparisons, f"over all {tables.results['dataset'].nunique()} datasets"
    where = "" if len(tables.runs.settings) > 1 else f"on {tables.runs.settings[0].label}"
    return tables.results, tables.comparisons, where


def _winners(rows: pd.DataFrame, of: str) -> list[str]:
    """The strategy with the highest mean, or the lowest SD, of each setting."""
    groups = rows.dropna(subset=[of]).groupby(["dataset", "model", "tuning", "labeled", "other"], sort=False)
    return [str(each.loc[each[of].idxmax() if of == "mean" else each[of].idxmin(), "strategy"]) for _, each in groups]


def _first(tables: Tables, of: str) -> str:
    """The strategy that is first most often; empty where nothing is known."""
    winners = _winners(_rows(tables)[0], of)
    return max(dict.fromkeys(winners), key=winners.count) if winners else ""


def _leads(tables: Tables, leader: str) -> str:
    rows, compared, where = _rows(tables)
    if not where:
        shown = int(rows["best"].sum())
        return (
            f"{leader} has the highest mean in {_winners(rows, 'mean').count(leader)} of "
            f"{len(tables.runs.settings)} settings; that the highest mean is above each other one is shown in {shown}."
        )
    row = rows[rows["strategy"] == leader].iloc[0]
    text = f"{leader} has the highest mean {where}, {row['mean']:.1f}"
    above = "shown to be above each other strategy" if row["best"] else "not shown to be above each other strategy"
    found = compared[compared["strategy"] == leader]
    if len(found):
        each = found.iloc[0]
        text += (
            f": {_signed(each['difference'])} points from {tables.baseline} (95 % interval {each['low']:.1f} to "
            f"{each['high']:.1f})"
        )
    return f"{text}, {above}."


def _steadiest(tables: Tables, steadiest: str) -> Iterator[str]:
    rows, compared, where = _rows(tables)
    if not steadiest:
        return
    enough = "" if int(rows["seeds"].max()) >= LEAST_SEEDS else f"; fewer than {LEAST_SEEDS} seeds cannot show it"
    if not where:
        count = _winners(rows, "sd").count(steadiest)
        yield f"{steadiest} varies least over the seeds in {count} of {len(tables.runs.settings)} settings{enough}."
        return
    row = rows[rows["strategy"] == steadiest].iloc[0]
    found = compared[compared["strategy"] == steadiest]
    text = f"{steadiest} varies least over the seeds, with an SD of {row['sd']:.1f} points"
    if len(found) and not pd.isna(found.iloc[0]["sd_ratio"]):
        each = found.iloc[0]
        verdict = str(each["sd_shown"])
        stable = f"shown to be {verdict}" if verdict.endswith("more stable") or verdict.startswith("at least") else ""
        told = enough.removeprefix("; ") or stable or "not shown to be more stable"
        text += f": {each['sd_ratio']:.2f} times that of {tables.baseline}, {told}"
    yield f"{text}."


def _cost(tables: Tables, leader: str, steadiest: str) -> Iterator[str]:
    steps = tables.results.groupby("strategy")["member_steps"].mean()
    base = steps.get(tables.baseline)
    told = [
        f"{name} {steps[name]:,.0f} member-steps ({steps[name] / base:.1f} times {tables.baseline})"
        for name in dict.fromkeys((leader, steadiest))
        if name and name != tables.baseline and base and not pd.isna(steps[name] / base)
    ]
    if told:
        yield f"A run costs: {', '.join(told)}."
    elif leader == tables.baseline and base and not pd.isna(base):
        yield f"{leader} costs {base:,.0f} member-steps a run."


def _of_baselines(tables: Tables) -> Iterator[str]:
    """What baselines have to say beside their scores, such as a price."""
    for group in tables.runs.groups:
        name = group.rows[0].cell.strategy.name if group.rows else ""
        if is_baseline(name) and (remark := BASELINES[name]().remark(group.rows[0].diagnostics)):
            yield f"{group.strategy} on {group.setting.label}: {remark}."


def _open(tables: Tables) -> Iterator[str]:
    """What of the comparisons with the baseline is open."""
    _, compared, _ = _rows(tables)
    if compared.empty:
        return
    open_mean, open_spread = (
        [name for name, each in compared.groupby("strategy", sort=False)[of] if set(each) <= {"not shown", few}]
        for of, few in (("mean_shown", "too few seeds"), ("sd_shown", "too few seeds"))
    )
    both = [name for name in open_mean if name in open_spread]
    if both:
        yield f"Not known: whether {_listed(both)} differ{_s(both)} from {tables.baseline} at all, in mean or spread."
    elif open_mean or open_spread:
        told = [
            f"whether {_listed(names)} {verb if len(names) > 1 else verbs} than {tables.baseline}"
            for names, verb, verbs in (
                (open_mean, "score higher or lower", "scores higher or lower"),
                (open_spread, "vary more or less", "varies more or less"),
            )
            if names
        ]
        yield f"Not known: {'; '.join(told)}."


def _limits(tables: Tables) -> str:
    """What these runs cannot say, in one sentence."""
    datasets, blocks = tables.results["dataset"].nunique(), int(tables.results["blocks"].min())
    seeds = sorted({int(each) for each in tables.results["seeds"]})
    many = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    text = (
        f"This is from {many} run{'' if seeds == [1] else 's'} of a strategy in each setting, "
        f"{blocks} choice{'' if blocks == 1 else 's'} "
        f"of labeled texts and {datasets} dataset{'' if datasets == 1 else 's'}: others may differ"
    )
    if tables.runs.texts != "test texts":
        text += "; scores on dev texts are for choosing only"
    if tables.runs.waiting:
        text += f"; {tables.runs.waiting:,} runs are not done yet"
    lost, chance = sum(len(each.failed) for each in tables.runs.groups), int(tables.results["at_chance"].sum())
    if lost:
        text += f"; {lost:,} gave no result"
    if chance:
        text += f"; {chance:,} {'is' if chance == 1 else 'are'} no better than the majority class"
    return f"{text}."


def _alone(tables: Tables) -> Iterator[str]:
    rows = tables.results
    means, name = rows["mean"], tables.runs.strategies[0]
    told = f"{means.min():.1f}" if len(rows) == 1 else f"{means.min():.1f} to {means.max():.1f}"
    yield f"{name} has a mean of {told} points; there is no other strategy to compare it with."
    if rows["sd"].notna().any():
        yield f"Its seeds vary by an SD of up to {rows['sd'].max():.1f} points."


def _listed(names: Sequence[Any]) -> str:
    if len(names) > NAMED:
        return f"{', '.join(map(str, names[: NAMED - 1]))} and {len(names) - NAMED + 1} others"
    return " and ".join(filter(None, (", ".join(map(str, names[:-1])), str(names[-1]))))


def _s(names: Sequence[Any]) -> str:
    """The ending of a verb."""
    return "s" if len(names) == 1 else ""


def _signed(value: float) -> str:
    return f"{value:+.1f}"
