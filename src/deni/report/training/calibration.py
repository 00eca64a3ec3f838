"""How sure a trained model may be: reliability before and after its temperature, accuracy of its surest answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from deni.report.charts import COLOURS, INK, QUIET, Figure, named, spec_of, tips_of
from deni.report.html.frame import Column
from deni.report.numbers import number

_KINDS = ("before", "after")


def reliability_rows(calibration: Mapping[str, Any]) -> pd.DataFrame:
    """`of` (before, after), `confidence`, `accuracy` in percent, `count` of each bin of the vote."""
    found = calibration.get("vote", {})
    rows = [
        {
            "of": kind,
            "confidence": 100 * each["confidence"],
            "accuracy": 100 * each["accuracy"],
            "count": round(each["count"]),
        }
        for kind in _KINDS
        for each in found.get(kind, {}).get("bins", [])
    ]
    return pd.DataFrame(rows, columns=["of", "confidence", "accuracy", "count"])


def coverage_rows(abstention: Mapping[str, Any]) -> pd.DataFrame:
    """`coverage`, `accuracy`, `bound` in percent, `answered`, `errors` and `threshold` at each coverage."""
    names = ["coverage", "accuracy", "bound", "answered", "errors", "threshold"]
    percent = {"coverage", "accuracy", "bound"}
    rows = [
        {name: 100 * row[name] if name in percent else row[name] for name in names}
        for row in abstention.get("curve", [])
    ]
    return pd.DataFrame(rows, columns=names)


def calibration_figures() -> dict[str, Figure]:
    """Figures of `reliability_rows` and `coverage_rows`."""
    return {"temperature": _reliability(), "coverage": _coverage()}


def _reliability() -> Figure:
    ends = alt.Chart(alt.InlineData([{"at": 0}, {"at": 100}]))
    exact = ends.mark_line(color=QUIET, strokeDash=[4, 3]).encode(x="at:Q", y="at:Q")
    scale = alt.Scale(domain=[0, 100])
    color = alt.Color(
        "of:N",
        scale=alt.Scale(domain=list(_KINDS), range=list(COLOURS[:2])),
        legend=alt.Legend(orient="top", title=None),
    )
    base = named("temperature").encode(
        x=alt.X("confidence:Q", title="confidence, in %", scale=scale),
        y=alt.Y("accuracy:Q", title="accuracy, in %", scale=scale),
    )
    lines = base.mark_line(strokeWidth=1.6).encode(color=color, strokeDash=alt.StrokeDash("of:N", legend=None))
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        color=color, tooltip=tips_of("of", "confidence:.1f", "accuracy:.1f", "count:,")
    )
    counts = (
        base.transform_filter("datum.of == 'after'").mark_text(dy=-10, fontSize=11, color=INK).encode(text="count:Q")
    )
    return Figure(
        "temperature",
        "Before and after the temperature",
        "Predictions for texts that the model had not learned, in ten bins by confidence; on the dashed line it is the "
        "accuracy. After is cross-fitted: each fold by the temperature of the others. The numbers are its counts.",
        "all",
        {"temperature": "temperature"},
        spec_of(exact + lines + points + counts),
        legend=False,
    )


def _coverage() -> Figure:
    x = alt.X("coverage:Q", title="texts answered, the surest first, in %", scale=alt.Scale(domain=[0, 100]))
    base = named("coverage")
    tips = tips_of("coverage:.0f", "accuracy:.1f", "bound:.1f", "answered:,", "errors", "threshold:.3f")
    y = alt.Y("accuracy:Q", title="accuracy of the answers, in %", scale=alt.Scale(zero=False, domainMax=100))
    band = base.transform_filter("datum.answered >= 10").mark_area(opacity=0.18, color=COLOURS[0])
    line = base.mark_line(strokeWidth=1.6, color=COLOURS[0]).encode(x=x, y=y)
    points = base.mark_point(filled=True, size=40, opacity=1, color=COLOURS[0]).encode(x=x, y=y, tooltip=tips)
    return Figure(
        "coverage",
        "What may be answered at which accuracy?",
        "Accuracy of the surest out-of-fold predictions; the band goes down to the lower 95 % Clopper-Pearson bound of "
        "each point alone, where ten or more are answered.",
        "all",
        {"coverage": "coverage"},
        spec_of(band.encode(x=x, y=y, y2="bound:Q") + line + points),
        legend=False,
    )


def coverage_table(frame: pd.DataFrame) -> list[Column]:
    """The columns of the page's table of `coverage_rows`."""
    return [
        Column("answered, %", [number(value, 0) for value in frame["coverage"]]),
        Column("texts", [f"{value:,}" for value in frame["answered"]]),
        Column("wrong", [f"{value:,}" for value in frame["errors"]]),
        Column("accuracy, %", [number(value, 1) for value in frame["accuracy"]]),
        Column("at least, %", [number(value, 1) for value in frame["bound"]]),
        Column("confidence above", [number(value, 3) for value in frame["threshold"]]),
    ]


def reliability_table(frame: pd.DataFrame) -> list[Column]:
    """The columns of the page's table of `reliability_rows`."""
    return [
        Column("temperature", frame["of"].tolist(), number=False),
        Column("confidence, %", [number(value, 1) for value in frame["confidence"]]),
        Column("accuracy, %", [number(value, 1) for value in frame["accuracy"]]),
        Column("examples", [f"{value:,}" for value in frame["count"]]),
    ]
