"""The figures of one training; those that a study has, too, are the study's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from deni.report.charts import COLOURS, INK, QUIET, Figure, Styles, named, spec_of, tips_of
from deni.report.figures import diversity_figure, reliability_figure
from deni.report.training.calibration import calibration_figures, coverage_rows, reliability_rows
from deni.report.training.summary import TrainingSummary
from deni.tasks import TASKS, Task
from deni.tasks.metrics import called


def build_figures(summary: TrainingSummary) -> tuple[list[Figure], Mapping[str, list[dict[str, Any]]]]:
    """The figures that this training has rows for, and the rows of their tables."""
    test, styles = summary.on_test, Styles(["members"])
    frames = {
        "losses": summary.losses,
        "phases": pd.DataFrame([{**each, "middle": (each["start"] + each["stop"]) / 2} for each in summary.phases]),
        "scores": summary.scores,
        "diversity": summary.forks.assign(g=0, strategy="members"),
        "excess": summary.excess,
        "reliability": pd.DataFrame() if test is None else test.reliability.assign(g=0, strategy="vote"),
        "points": pd.DataFrame() if test is None else test.points,
        "temperature": reliability_rows(summary.calibration),
        "coverage": coverage_rows(summary.abstention),
    }
    found = {
        "losses": _loss(summary),
        "scores": _scores(TASKS[summary.settings["recipe"]["task"]]),
        "diversity": _of_one(
            diversity_figure(styles),
            "From each fork (open mark) to its merge or vote (filled mark), on a few texts and without dropout. "
            "Members that agree on everything are one model and gain nothing.",
        ),
        "excess": _excess(),
        "reliability": _of_one(
            _with_counts(reliability_figure(styles)),
            f"The {'words' if test and test.examples == 'words' else 'test texts'} in ten bins by the confidence of "
            "the vote; the number at a point says how many. On the dashed line confidence is accuracy; below it the "
            "model is too sure.",
        ),
        "points": _points(),
        **calibration_figures(),
    }
    drawn = [figure for name, figure in found.items() if not frames[name].empty]
    # In regression nothing is chosen, and independent runs have no fork: the table has what there is.
    if not summary.forks.empty and summary.forks["disagreement_at_fork"].isna().all():
        drawn = [figure for figure in drawn if figure.name != "diversity"]
    return drawn, {name: frame.to_dict("records") for name, frame in frames.items()}


def _with_counts(figure: Figure) -> Figure:
    """The reliability diagram with the count of each bin at its point."""
    x, y = alt.X("confidence:Q"), alt.Y("accuracy:Q")
    counts = named("reliability").mark_text(dy=-10, fontSize=11, color=INK).encode(x=x, y=y, text="count:Q")
    layer = {name: value for name, value in counts.to_dict().items() if name in ("data", "mark", "encoding")}
    return dataclasses.replace(figure, spec={**figure.spec, "layer": [*figure.spec["layer"], layer]})


def _of_one(figure: Figure, caption: str) -> Figure:
    return dataclasses.replace(figure, caption=caption, each="all", legend=False)


def _step(summary: TrainingSummary | None = None) -> alt.X:
    last = summary.phases[-1]["stop"] if summary is not None and summary.phases else None  # None: nothing was trained
    scale = alt.Scale(zero=True) if last is None else alt.Scale(domain=[0, last])
    return alt.X("step:Q", title="optimizer step", scale=scale)


def _loss(summary: TrainingSummary) -> Figure:
    several = named("phases").transform_filter("datum.members > 1")
    tips = tips_of("members", "start", "stop")
    across = {"x": alt.X("start:Q", title="optimizer step"), "x2": "stop:Q"}
    bands = several.mark_rect(opacity=0.14, color=QUIET).encode(**across, tooltip=tips)
    labels = several.mark_text(baseline="top", dy=2, fontSize=11, color=INK).encode(
        x="middle:Q", y=alt.value(0), text="members:Q", tooltip=tips
    )
    kinds = list(dict.fromkeys(summary.losses["of"]))
    legend = alt.Legend(orient="top", title=None) if len(kinds) > 1 else None
    of = alt.Color("of:N", scale=alt.Scale(domain=kinds, range=list(COLOURS[: len(kinds)])), legend=legend)
    y = alt.Y("loss:Q", title="mean loss of the members", scale=alt.Scale(zero=False))
    base = named("losses").encode(x=_step(summary), y=y, color=of)
    lines = base.mark_line(strokeWidth=1.6).encode(strokeDash=alt.StrokeDash("of:N", legend=None))
    points = base.mark_point(filled=True, size=28, opacity=1).encode(tooltip=tips_of("of", "step", "loss:.4f"))
    return Figure(
        "losses",
        "Loss",
        "Mean over the members, with dropout, over all steps since the point before. Where there are several members "
        "the ground is gray, and the number at the top says how many.",
        "all",
        {"losses": "losses", "phases": "phases"},
        spec_of(bands + labels + lines + points),
        legend=False,
    )


def _scores(task: Task) -> Figure:
    title = "score, in points" if task.best_is_highest else called(task.best)
    y = alt.Y("score:Q", title=title, scale=alt.Scale(zero=False))
    base = named("scores").encode(x=_step(), y=y, tooltip=tips_of("step", "score:.2f"))
    return Figure(
        "scores",
        "Development texts",
        "Score of the vote after each epoch. The best epoch is kept.",
        "all",
        {"scores": "scores"},
        spec_of(base.mark_line(color=COLOURS[1]) + base.mark_point(filled=True, size=50, opacity=1, color=COLOURS[1])),
        legend=False,
    )


def _excess() -> Figure:
    zero = alt.Chart(alt.InlineData([{"at": 0}])).mark_rule(color=QUIET, strokeDash=[4, 3]).encode(y="at:Q")
    y = alt.Y("excess:Q", title="loss above the parent's")
    lines = named("excess").encode(x=_step(), y=y, detail="fork:N", tooltip=tips_of("fork", "step", "excess:.4f"))
    return Figure(
        "excess",
        "Do the copies recover from the noise?",
        "Mean training loss of the noisy copies minus their parent's, on the same batches, step by step in each fork. "
        "Above the dashed line the noise still costs something; far above it to the end, the noise is too large.",
        "all",
        {"excess": "excess"},
        spec_of(
            zero
            + lines.mark_line(strokeWidth=1.6, color=COLOURS[0])
            + lines.mark_point(filled=True, size=20, opacity=1, color=COLOURS[0])
        ),
        legend=False,
    )


def _points() -> Figure:
    scale = alt.Scale(zero=False)
    base = named("points").encode(x=alt.X("gold:Q", title="right number", scale=scale))
    dots = base.mark_point(size=26, opacity=0.6, color=COLOURS[0]).encode(
        y=alt.Y("predicted:Q", title="predicted", scale=scale), tooltip=tips_of("gold:.4g", "predicted:.4g")
    )
    exact = base.mark_line(color=QUIET, strokeDash=[4, 3]).encode(y="gold:Q")
    return Figure(
        "points",
        "Predicted against right",
        "A circle is one test text; on the dashed line the prediction is right.",
        "all",
        {"points": "points"},
        spec_of(exact + dots),
        legend=False,
    )
