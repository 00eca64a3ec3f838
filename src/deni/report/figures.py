"""The figures as Vega-Lite specifications: what is drawn, never with which rows; the page gives those it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import altair as alt

from deni.analysis.tables import Tables
from deni.report.charts import FAILED, INK, ORDER, QUIET, Figure, Styles, named, points_axis, spec_of, tips_of


def build_figures(tables: Tables) -> list[Figure]:
    """The figures that the study has rows for."""
    styles = Styles(tables.runs.strategies)
    score = " or ".join(dict.fromkeys(tables.results["score"])) + ", in points"
    found = [
        _strip(styles, score),
        _cost(styles, score, "mean"),
        _cost(styles, score, "sd"),
        _ranks(styles),
        _mean_ranks(styles),
        _learning(styles, score),
        _disagreement(styles, tables.runs.texts),
        reliability_figure(styles),
        diversity_figure(styles),
    ]
    has = {
        "ranks": tables.results["rank"].max() > 1,
        "mean-ranks": not tables.mean_ranks.empty,
        "learning": tables.results.groupby(["dataset", "model", "tuning", "other"])["labeled"].nunique().max() > 1,
        "cost-mean": tables.results["member_steps"].notna().any(),
        "cost-sd": (tables.results["member_steps"].notna() & tables.results["sd"].notna()).any(),
        "disagreement": tables.instability["disagreement"].notna().any(),
        "reliability": not tables.reliability.empty,
        "diversity": not tables.diversity.empty,
    }
    return [figure for figure in found if has.get(figure.name, True)]


def marks(strategies: Sequence[str]) -> list[dict[str, str]]:
    """Colour and shape of each strategy, for the legend."""
    return [
        {"strategy": name, "color": color, "shape": shape}
        for name, color, shape, _ in Styles(strategies).each()
    ]  # fmt: skip


# ---- scores ----------------------------------------------------------------------------------------------------------


def _strip(styles: Styles, score: str) -> Figure:
    rows = alt.Y("strategy:N", title=None, sort=ORDER, axis=alt.Axis(grid=False))
    seeds = (
        named("runs")
        .transform_calculate(away="(datum.seed * 0.618034 + datum.block * 0.37) % 1")  # apart, and always alike
        .mark_point(size=42, opacity=0.8, strokeWidth=1.3)
        .encode(
            x=points_axis("points", score),
            y=rows,
            yOffset=alt.YOffset("away:Q", scale=alt.Scale(domain=[-0.5, 1.5])),
            color=styles.color,
            shape=alt.condition("datum.at_chance", alt.value(FAILED), alt.value("circle")),
            tooltip=tips_of("strategy", "block", "seed", "points:.2f", "at_chance"),
        )
    )
    spans = named("results").encode(y=rows)
    tips = tips_of("strategy", "seeds", "mean:.2f", "mean_low:.2f", "mean_high:.2f", "sd:.2f", "worst:.2f")
    interval = spans.mark_rule(strokeWidth=2, color=INK).encode(x="mean_low:Q", x2="mean_high:Q", tooltip=tips)
    means = spans.mark_tick(thickness=3, size=22, color=INK).encode(x="mean:Q", tooltip=tips)
    return Figure(
        "seeds",
        "Every seed",
        "A circle is one run; a cross is a run that is no better than the majority class. The bar is the mean, the "
        "line its interval of 95 % over seeds.",
        "setting",
        {"runs": "each_run", "results": "results"},
        spec_of(seeds + interval + means, alt.Step(42)),
        legend=False,
    )


def _cost(styles: Styles, score: str, of: Literal["mean", "sd"]) -> Figure:
    # Of baselines, which train nothing, a logarithmic axis has no place.
    title = score if of == "mean" else "SD over the seeds, in points"
    x = alt.X("member_steps:Q", title="member-steps of a run", scale=alt.Scale(type="log", nice=False, padding=24))
    x = x.axis(format="~s", tickCount=5)
    base = named("results").transform_filter(f"isValid(datum.{of}) && datum.member_steps > 0")
    y = alt.Y(f"{of}:Q", title=title, scale=alt.Scale(zero=False, padding=14))
    tips = tips_of(
        "strategy", "seeds", "mean:.2f", "sd:.2f", "worst:.2f", "member_steps:,.0f", "seconds:,.1f", "tflops:,.2f"
    )
    front = base.transform_filter(f"datum.pareto_{of}").mark_line(color=QUIET, strokeDash=[4, 3])
    points = base.mark_point(size=110, filled=True, opacity=1, stroke=INK, strokeWidth=0.6)
    points = points.encode(x=x, y=y, fill=styles.fill, shape=styles.shape, tooltip=tips)
    best = "highest" if of == "mean" else "lowest"
    return Figure(
        f"cost-{of}",
        "What the mean costs" if of == "mean" else "What stability costs",
        "One optimizer step of one member is a member-step. The dashed line joins the strategies that no other one "
        f"beats in both: the {best} {of if of == 'mean' else 'SD'} for their cost (the Pareto front of the values as "
        "measured, without their intervals, and of all strategies, also those that a filter hides).",
        "setting",
        {"results": "results"},
        spec_of(front.encode(x=x, y=y) + points),
    )


def _ranks(styles: Styles) -> Figure:
    base = named("results").encode(
        x=alt.X("strategy:N", title=None, sort=ORDER, axis=alt.Axis(labelAngle=-35, labelLimit=130)),
        y=alt.Y("setting:N", title=None, sort=None, axis=alt.Axis(labelLimit=170)),
    )
    color = alt.Color("rank:Q", title="rank", scale=alt.Scale(scheme="cividis", reverse=True), legend=None)
    tips = tips_of("setting", "strategy", "rank:.1f", "mean:.2f", "sd:.2f")
    cells = base.mark_rect().encode(color=color, tooltip=tips)
    text = (
        base.transform_joinaggregate(last="max(rank)")
        .mark_text(fontSize=12)
        .encode(
            text=alt.Text("rank:Q", format=".3~r"),
            color=alt.condition("datum.rank > datum.last * 0.65", alt.value("#ffffff"), alt.value("#000000")),
        )
    )
    return Figure(
        "ranks",
        "Ranks of the means",
        "1 is the highest mean of a setting. A rank says nothing of how far apart two strategies are, or whether "
        "their difference is shown: see the comparisons.",
        "all",
        {"results": "results"},
        spec_of(cells + text, alt.Step(26)),
        legend=False,
    )


def _mean_ranks(styles: Styles) -> Figure:
    sort = alt.EncodingSortField("mean_rank", op="min")
    base = named("mean_ranks").encode(
        y=alt.Y("strategy:N", title=None, sort=sort, axis=alt.Axis(grid=True)),
        tooltip=tips_of("strategy", "mean_rank:.2f", "low:.2f", "high:.2f", "datasets", "p_value:.2g"),
    )
    bars = base.mark_rule(strokeWidth=2, color=INK).encode(x=points_axis("low", "mean rank (1 is best)"), x2="high:Q")
    points = base.mark_point(size=110, filled=True, opacity=1, stroke=INK, strokeWidth=0.6)
    return Figure(
        "mean-ranks",
        "Mean ranks over the datasets",
        "Strategies differ where their lines do not overlap (each is half of Nemenyi's critical difference to either "
        "side, at 5 %) and Friedman's test has p < 0.05 (on hover). Of the strategies that ran on all datasets, and "
        "always over all of them: a filter hides rows, and changes no rank.",
        "setting",
        {"mean_ranks": "mean_ranks"},
        spec_of(bars + points.encode(x="mean_rank:Q", fill=styles.fill, shape=styles.shape), alt.Step(30)),
        legend=False,
    )


def _learning(styles: Styles, score: str) -> Figure:
    x = alt.X("labeled:Q", title="labeled texts", scale=alt.Scale(type="log", nice=False, padding=16))
    x = x.axis(format="~s", tickCount=5)
    base = named("results").transform_filter("isNumber(datum.labeled)")
    y = alt.Y("mean:Q", title=score, scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.09).encode(
        x=x, y=alt.Y("mean_low:Q", title=score), y2="mean_high:Q", fill=styles.fill
    )
    line = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=styles.color, strokeDash=styles.dash)
    tips = tips_of("strategy", "labeled", "mean:.2f", "mean_low:.2f", "mean_high:.2f", "sd:.2f", "seeds")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=y, fill=styles.fill, shape=styles.shape, tooltip=tips
    )
    return Figure(
        "learning",
        "Learning curves",
        "Mean over the seeds against the number of labeled texts; the band is its interval of 95 %.",
        "curve",
        {"results": "results"},
        spec_of(band + line + points),
    )


# ---- predictions -----------------------------------------------------------------------------------------------------


def _disagreement(styles: Styles, texts: str) -> Figure:
    chart = (
        named("instability")
        .transform_filter("isValid(datum.disagreement)")
        .mark_point(filled=True, size=110, opacity=1, stroke=INK, strokeWidth=0.6)
        .encode(
            x=alt.X("disagreement:Q", title="texts on which two seeds disagree, in %", scale=alt.Scale(zero=True)),
            y=alt.Y("strategy:N", title=None, sort=ORDER, axis=alt.Axis(grid=True)),
            fill=styles.fill,
            shape=styles.shape,
            tooltip=tips_of("strategy", "disagreement:.2f", "kappa:.3f", "jsd:.4f"),
        )
    )
    return Figure(
        "disagreement",
        "Do the seeds agree, text by text?",
        f"Runs of equal score can be right on other texts. The share of {texts} on which two seeds choose different "
        "classes, mean over all pairs of seeds: lower is more stable.",
        "setting",
        {"instability": "instability"},
        spec_of(chart, alt.Step(30)),
        legend=False,
    )


def reliability_figure(styles: Styles) -> Figure:
    """Confidence against accuracy: rows of `reliability`."""
    ends = alt.Chart(alt.InlineData([{"at": 0}, {"at": 100}]))
    exact = ends.mark_line(color=QUIET, strokeDash=[4, 3]).encode(x="at:Q", y="at:Q")
    scale = alt.Scale(domain=[0, 100])
    base = named("reliability").encode(
        x=alt.X("confidence:Q", title="confidence, in %", scale=scale),
        y=alt.Y("accuracy:Q", title="accuracy, in %", scale=scale),
    )
    tips = tips_of("strategy", "confidence:.1f", "accuracy:.1f", "share:.1f", "count:,")
    line = base.mark_line(strokeWidth=1.6).encode(color=styles.color, strokeDash=styles.dash)
    points = base.mark_point(filled=True, size=55, opacity=1).encode(fill=styles.fill, shape=styles.shape, tooltip=tips)
    return Figure(
        "reliability",
        "Can the probabilities be trusted?",
        "Test texts of all runs in ten bins by the confidence of the vote. On the dashed line confidence is accuracy; "
        "below it the model is too sure. Bins with few texts (see the count on hover) are uncertain.",
        "setting",
        {"reliability": "reliability"},
        spec_of(exact + line + points),
    )


def diversity_figure(styles: Styles) -> Figure:
    """How far apart the members are from fork to merge or vote: rows of `diversity`."""
    x = alt.X("step:Q", title="optimizer step")
    y = alt.Y("disagreement_at_fork:Q", title="members disagree on, in % of texts")
    told = ("strategy", "fork", "members", "step", "stop", "ends_in", "runs")
    shares = [f"{what}_at_{at}:.2f" for what in ("disagreement", "distance") for at in ("fork", "end")]
    tips = tips_of(*told, *shares)
    base = named("diversity")
    both = base.transform_filter("isValid(datum.disagreement_at_fork)")
    lines = both.mark_rule(strokeWidth=2).encode(
        x=x, x2="stop:Q", y=y, y2="disagreement_at_end:Q", color=styles.color, strokeDash=styles.dash, tooltip=tips
    )
    starts = both.mark_point(size=50, opacity=1).encode(x=x, y=y, color=styles.color, shape=styles.shape, tooltip=tips)
    ends = (
        base.transform_filter("isValid(datum.disagreement_at_end)")
        .mark_point(filled=True, size=80, opacity=1)
        .encode(x="stop:Q", y="disagreement_at_end:Q", fill=styles.fill, shape=styles.shape, tooltip=tips)
    )
    return Figure(
        "diversity",
        "How different are the members?",
        "From each fork (open mark) to its merge or vote (filled mark), mean over the runs. Members that agree on "
        "everything are one model and gain nothing. Independent runs, which only vote, have a filled mark alone.",
        "setting",
        {"diversity": "diversity"},
        spec_of(lines + starts + ends),
    )
