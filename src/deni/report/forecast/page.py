"""The page of a forecast: the answer, the curve, the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deni.commands.forecast import LearningCurve, state_forecast
from deni.outputs import as_utf8, write_bytes
from deni.report.charts import Figure
from deni.report.html.frame import Column, check_packages, json_value, render_page, table_of
from deni.report.numbers import number
from deni.tasks import TASKS
from deni.tasks.metrics import called

POINTS = 80  # of the drawn power law


def check_page() -> None:
    """Raise InputError where a package is missing that the page needs: before the work, not after it."""
    check_packages()


def write_page(found: LearningCurve, output: str | Path, overwrite: bool = False) -> None:
    """Write the page, whole or not at all."""
    write_bytes(Path(output), as_utf8(build_page(found)), overwrite, kept="the page is")


def build_page(found: LearningCurve) -> str:
    """The page as HTML; every name in it is escaped."""
    task = TASKS[found.task]
    factor, digits = (100.0, 1) if task.in_points else (1.0, 3)
    figure, rows = _figure(found, factor)
    shown = {"measured": table_of(_measured(found, factor, digits)), "ahead": table_of(_ahead(found, factor, digits))}
    return render_page(
        "forecast",
        f"What more labels would give: {found.source}",
        {
            "tables": rows,
            "figures": [{"name": figure.name, "title": figure.title, "tables": figure.tables, "spec": figure.spec}],
        },
        script_of="training",
        found=found,
        sentences=state_forecast(found),
        figures={figure.name: figure},
        marks=[],
        shown=shown,
        law=", ".join(f"{name} {number(float(each), 3)}" for name, each in found.law._asdict().items()),
    )


def _figure(found: LearningCurve, factor: float) -> tuple[Figure, dict[str, list[dict[str, Any]]]]:
    import altair as alt

    from deni.report.charts import COLOURS, QUIET, named, spec_of, tips_of

    last = max([found.texts, *(each.total for each in found.forecasts)])
    sizes = np.geomspace(found.sizes[0], last, POINTS)
    rows = {
        "measured": _rows(found.sizes, found.scores, factor),
        "law": [
            {"texts": json_value(float(n)), "score": json_value(factor * float(value))}
            for n, value in zip(sizes, found.law.at(sizes), strict=True)
        ],
        "ahead": _rows(
            [each.total for each in found.forecasts],
            [[float(each.score[at]) for each in found.forecasts] for at in range(3)],
            factor,
        ),
        "now": [{"texts": found.texts, "said": "labels there are"}],
    }
    x = alt.X("texts:Q", title="labeled texts", scale=alt.Scale(zero=False, nice=False, padding=12))
    name = f"{called(found.metric)}{', in points' if factor > 1 else ''}"
    y = alt.Y("score:Q", title=name, scale=alt.Scale(zero=False))
    tips = tips_of("texts:,", "score:.2f", "low:.2f", "high:.2f")
    here = named("now").mark_rule(color=QUIET, strokeDash=[4, 3]).encode(x=x, tooltip=tips_of("said", "texts:,"))
    line = named("law").mark_line(color=COLOURS[0], strokeWidth=1.6).encode(x=x, y=y)
    parts = [here, line]
    for table, color, filled in (("measured", COLOURS[0], True), ("ahead", COLOURS[1], False)):
        base = named(table).encode(x=x, tooltip=tips)
        parts.append(base.mark_rule(color=color, strokeWidth=1.4).encode(y=alt.Y("low:Q", title=name), y2="high:Q"))
        parts.append(base.mark_point(color=color, filled=filled, size=50, opacity=1, strokeWidth=2).encode(y=y))
    figure = Figure(
        "curve",
        "Learning curve",
        "Filled: cross-validated on subsets of the labels. Open: the forecast. The line is the power law, dashed the "
        "labels that there are. Bars are 90 % intervals: of a measured score over other texts; of a forecast over "
        "other texts, labels and trainings.",
        "all",
        {each: each for each in rows},
        spec_of(alt.layer(*parts)),
        legend=False,
    )
    return figure, rows


def _rows(sizes: Sequence[Any] | np.ndarray, scores: Sequence[Any], factor: float) -> list[dict[str, Any]]:
    return [
        {"texts": int(size), **{name: json_value(factor * float(end)) for name, end in zip(_ENDS, each, strict=True)}}
        for size, *each in zip(sizes, *scores, strict=True)
    ]


_ENDS = ("score", "low", "high")


def _measured(found: LearningCurve, factor: float, digits: int) -> list[Column]:
    score, *ends = ([number(factor * value, digits) for value in each] for each in np.asarray(found.scores))
    return [
        Column("texts", [f"{size:,}" for size in found.sizes]),
        Column(called(found.metric), score),
        Column("90 % interval", [" to ".join(each) for each in zip(*ends, strict=True)]),
    ]


def _ahead(found: LearningCurve, factor: float, digits: int) -> list[Column]:
    def ends(each: Any, sign: str) -> str:
        return " to ".join(f"{factor * float(end):{sign}.{digits}f}" for end in (each.low, each.high))

    return [
        Column("more labels", [f"{each.more:,}" for each in found.forecasts]),
        Column("labels", [f"{each.total:,}" for each in found.forecasts]),
        Column(called(found.metric), [number(factor * float(each.score.value), digits) for each in found.forecasts]),
        Column("90 % interval", [ends(each.score, "") for each in found.forecasts]),
        Column("gain", [f"{factor * float(each.gain.value):+.{digits}f}" for each in found.forecasts]),
        Column("90 % interval of the gain", [ends(each.gain, "+") for each in found.forecasts]),
    ]
