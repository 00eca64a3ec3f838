"""A study as a page: its tables and figures, and what scripts get of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from deni.analysis.claims import NOT_EQUAL, Sentence
from deni.analysis.runs import WHERE, Setting
from deni.analysis.summary import summarize
from deni.analysis.tables import Tables
from deni.analysis.votes import OTHERS
from deni.measures import F1_MARGIN, LEAST_SEEDS, SD_MARGIN
from deni.report.html.frame import Column, json_value, render_page
from deni.report.numbers import differences_from_soft, number, p_value, span
from deni.report.repeat import Repeat

MOST_RUNS = 30_000  # that are drawn one by one; of more, a sample
MOST_FAILURES = 500  # that are listed
_DRAWN = ("results", "each_run", "mean_ranks", "instability", "reliability", "diversity")


def build_page(tables: Tables, sentences: Sequence[Sentence], repeat: Repeat, title: str) -> str:
    """The page as HTML; every name in it is escaped."""
    from deni.report.figures import build_figures, marks

    drawn = build_figures(tables)
    data = {
        "settings": [_setting(setting) for setting in tables.runs.settings],
        "strategies": tables.runs.strategies,
        "tables": {name: _columns(_sampled(getattr(tables, name)), tables) for name in _DRAWN},
        "figures": [
            {"name": each.name, "each": each.each, "tables": dict(each.tables), "spec": each.spec} for each in drawn
        ],
    }
    return render_page(
        "study",
        title,
        data,
        tables=tables,
        filters=_filters(tables.runs.settings),
        matrix=_matrix(tables),
        shown=_shown(tables),
        common=_common(tables.runs.settings),
        marks=marks(tables.runs.strategies),
        figures={each.name: each for each in drawn},
        summary=summarize(tables),
        sentences=sentences,
        not_equal=NOT_EQUAL,
        repeat=repeat,
        failures=len(tables.failures),
        sampled=len(tables.each_run) > MOST_RUNS and MOST_RUNS,
        margin_f1=f"{100 * F1_MARGIN:g}",
        margin_sd=f"{SD_MARGIN:g}",
        least_seeds=LEAST_SEEDS,
    )


# ---- what scripts get ------------------------------------------------------------------------------------------------


def _setting(setting: Setting) -> dict[str, Any]:
    labeled = "all" if setting.labeled is None else setting.labeled
    own = {"dataset": setting.dataset, "model": setting.model, "tuning": setting.tuning, "other": setting.other}
    return {"label": setting.label, "curve": setting.curve, "labeled": labeled, **own}


def _sampled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sample(MOST_RUNS, random_state=0).sort_index() if len(frame) > MOST_RUNS else frame


def _columns(frame: pd.DataFrame, tables: Tables) -> dict[str, list[Any]]:
    """A frame by columns; strategy and setting as numbers, or no setting where a row is of several."""
    settings, strategies = _places(frame, tables)
    own = {name: [json_value(each) for each in frame[name].tolist()] for name in frame.columns if name not in WHERE}
    return {"setting": settings, "strategy": strategies, **own}


def _places(frame: pd.DataFrame, tables: Tables) -> tuple[list[Any], list[int]]:
    place = {each.key: at for at, each in enumerate(tables.runs.settings)}
    numbers = {name: at for at, name in enumerate(tables.runs.strategies)}
    of_one = "dataset" in frame
    keys = frame[list(WHERE[1:])].itertuples(index=False, name=None) if of_one else ()
    settings = [place.get(key) for key in keys] if of_one else [None] * len(frame)  # None: of several
    return settings, [numbers[name] for name in frame["strategy"]]


# ---- tables of the page ----------------------------------------------------------------------------------------------


def _common(settings: Sequence[Setting]) -> str:
    """What all settings share, and their labels omit."""
    parts = [{getattr(setting, name) for setting in settings} for name in ("model", "tuning", "amount")]
    return ", ".join(value for part in parts if len(part) == 1 for value in part)


def _filters(settings: Sequence[Setting]) -> dict[str, list[str]]:
    """The values of each part of a setting that has several, as texts."""
    found: dict[str, list[str]] = {}
    for name in ("dataset", "model", "tuning", "labeled", "other"):
        values = [getattr(setting, name) for setting in settings]
        if len(set(values)) > 1:
            found[name] = list(dict.fromkeys("all" if value is None else str(value) for value in values))
    return found


def _matrix(tables: Tables) -> list[dict[str, Any]]:
    """Strategies x settings."""
    settings, strategies = _places(tables.results, tables)
    rows = tables.results.to_dict("records")
    usual = {at: max(row["seeds"] for row, other in zip(rows, settings, strict=True) if other == at) for at in settings}
    cells = {
        (strategy, setting): row | {"usual": usual[setting]}
        for strategy, setting, row in zip(strategies, settings, rows, strict=True)
    }
    return [
        {"name": name, "cells": [_cell(cells.get((at, place))) for place in range(len(tables.runs.settings))]}
        for at, name in enumerate(tables.runs.strategies)
    ]


def _cell(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    spread = {"mean": number(row["mean"], 1), "sd": number(row["sd"], 1), "best": row["best"]}
    return {
        **spread,
        "interval": span(row["mean_low"], row["mean_high"], 1),
        "lost": row["no_result"] + row["at_chance"],
        "fewer": row["seeds"] if row["seeds"] < row["usual"] else 0,
        "usual": row["usual"],
    }


def _shown(tables: Tables) -> dict[str, dict[str, Any]]:
    """Each table: its columns, and which setting and strategy each row is of."""
    failures = tables.failures.head(MOST_FAILURES)
    frames = {
        "results": (tables.results, _results(tables.results, tables.runs.texts)),
        "overall": (tables.overall, _results(tables.overall, tables.runs.texts)),
        "cost": (tables.results, _costs(tables.results)),
        "comparisons": (tables.comparisons, _comparisons(tables.comparisons)),
        "overall_comparisons": (tables.overall_comparisons, _comparisons(tables.overall_comparisons)),
        "votes": (tables.votes, _votes(tables.votes)),
        "instability": (tables.instability, _instability(tables.instability)),
        "diversity": (tables.diversity, fork_columns(tables.diversity)),
        "failures": (failures, _failures(failures)),
    }
    found = {}
    for name, (frame, own) in frames.items():
        columns = [*_where(frame, tables), *own]
        settings, strategies = _places(frame, tables)
        found[name] = {
            "columns": columns,
            "rows": [
                {"setting": setting, "strategy": strategy, "cells": [column.values[at] for column in columns]}
                for at, (setting, strategy) in enumerate(zip(settings, strategies, strict=True))
            ],
        }
    return found


def _where(frame: pd.DataFrame, tables: Tables) -> list[Column]:
    """Strategy and setting; parts that are the same in the whole study are omitted."""
    columns = [Column("strategy", frame["strategy"].tolist(), number=False)]
    for name in WHERE[1:]:
        values = {getattr(setting, name) for setting in tables.runs.settings}
        if len(values) > 1 or name == "dataset" or (name == "other" and values != {""}):
            columns.append(Column(name, [str(value) for value in frame[name]], number=name == "labeled"))
    return columns


def _numbers(frame: pd.DataFrame, name: str, title: str, digits: int) -> Column:
    return Column(title, [number(value, digits) for value in frame[name]])


def _spans(frame: pd.DataFrame, low: str, high: str, title: str, digits: int) -> Column:
    return Column(title, [span(*ends, digits) for ends in zip(frame[low], frame[high], strict=True)])


def _results(frame: pd.DataFrame, texts: str) -> list[Column]:
    same = frame["score"].nunique() == 1
    kinds = [] if same else [Column("score", frame["score"].tolist(), number=False)]
    mean = f"mean {frame['score'].iloc[0]}" if same else "mean"
    return [
        *kinds,
        Column(
            mean,
            [
                f"{number(value, 2)}{' ★' if best else ''}"
                for value, best in zip(frame["mean"], frame["best"], strict=True)
            ],
        ),
        _spans(frame, "mean_low", "mean_high", "95 % interval", 2),
        _numbers(frame, "sd", "SD", 2),
        _spans(frame, "sd_low", "sd_high", "95 % interval", 2),
        _numbers(frame, "worst", "worst seed", 2),
        Column("seeds", [str(value) for value in frame["seeds"]]),
        Column("blocks", [str(value) for value in frame["blocks"]]),
        Column(texts, [str(value) for value in frame["texts"]]),
        Column("no result", [str(value) for value in frame["no_result"]]),
        Column("at chance", [str(value) for value in frame["at_chance"]]),
        _numbers(frame, "member_steps", "member-steps", 0),
        _numbers(frame, "seconds", "seconds", 1),
    ]


def _costs(frame: pd.DataFrame) -> list[Column]:
    return [
        _numbers(frame, "member_steps", "member-steps", 0),
        _numbers(frame, "seconds", "seconds", 1),
        _numbers(frame, "tflops", "TFLOP", 2),
        _numbers(frame, "mean", "mean", 2),
        _numbers(frame, "gain_per_baseline", "gain", 2),
        _numbers(frame, "sd", "SD", 2),
        _numbers(frame, "drop_per_baseline", "drop in SD", 2),
    ]


def _comparisons(frame: pd.DataFrame) -> list[Column]:
    return [
        Column("pairs", [str(value) for value in frame["pairs"]]),
        _numbers(frame, "difference", "difference of means", 2),
        _spans(frame, "low", "high", "95 % interval", 2),
        Column("p (Holm)", [p_value(value) for value in frame["p_mean"]]),
        Column("mean: shown", frame["mean_shown"].tolist(), number=False),
        _numbers(frame, "sd_ratio", "ratio of SDs", 2),
        _spans(frame, "sd_ratio_low", "sd_ratio_high", "95 % interval", 2),
        Column("p (Holm)", [p_value(value) for value in frame["p_sd"]]),
        Column("spread: shown", frame["sd_shown"].tolist(), number=False),
    ]


def _votes(frame: pd.DataFrame) -> list[Column]:
    return [
        Column("runs", [str(value) for value in frame["runs"]]),
        _numbers(frame, "soft", "soft vote", 2),
        *(Column(f"{name} - soft", differences_from_soft(frame, name)) for name in OTHERS),
        _numbers(frame, "disagreement", "disagreement, %", 2),
    ]


def _instability(frame: pd.DataFrame) -> list[Column]:
    return [
        _numbers(frame, "disagreement", "disagreement, %", 2),
        _numbers(frame, "kappa", "Fleiss' kappa", 3),
        _numbers(frame, "jsd", "JSD, nats", 4),
        _numbers(frame, "ece", "ECE, %", 2),
        _numbers(frame, "brier", "Brier score", 3),
        _numbers(frame, "nll", "NLL, nats", 3),
    ]


def fork_columns(frame: pd.DataFrame) -> list[Column]:
    """Of rows as `deni.analysis.forks.summarize_forks` gives them."""
    numbers = [
        Column(name, [str(value) for value in frame[name]], number=name != "ends in")
        for name in ("fork", "step", "stop", "members")
    ]
    return [
        *numbers,
        Column("ends in", frame["ends_in"].tolist(), number=False),
        _numbers(frame, "disagreement_at_fork", "disagreement at fork, %", 1),
        _numbers(frame, "disagreement_at_end", "at end, %", 1),
        _numbers(frame, "distance_at_fork", "distance at fork, %", 1),
        _numbers(frame, "distance_at_end", "at end, %", 1),
        Column("runs", [str(value) for value in frame["runs"]]),
    ]


def _failures(frame: pd.DataFrame) -> list[Column]:
    return [
        Column("block", [str(value) for value in frame["block"]]),
        Column("seed", [str(value) for value in frame["seed"]]),
        Column("what", frame["what"].tolist(), number=False),
        _numbers(frame, "points", "score", 1),
        Column("reason", frame["reason"].tolist(), number=False, long=True),
    ]
