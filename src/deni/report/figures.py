"""The figures as Vega-Lite specifications: what is drawn, never with which rows; the page gives those it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

from deni.report.tables import Tables

# Okabe & Ito's colours, told apart by people with any colour vision; a shape and dashes say the same once more.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C", "#C9B800")
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
# Styles and order go by the number of a strategy, `g`: Vega-Lite makes expressions of what is in a specification, so
# the user's names are in the rows only.
ORDER = alt.EncodingSortField("g", op="min")
FAILED = "M-1-1 1 1M1-1-1 1"  # a cross, for runs at chance
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3])

# Styles of the page reach into the SVG by custom properties, so that dark mode and print need no second drawing.
INK, QUIET, LINE = "var(--ink)", "var(--quiet)", "var(--line)"
_FONT = "system-ui, sans-serif"
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        **{"labelColor": INK, "titleColor": INK, "domainColor": LINE, "tickColor": LINE, "gridColor": LINE},
        **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 150},
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontWeight": "normal"},
    "title": {"color": INK},
}


@dataclass(frozen=True)
class Figure:
    """A figure of the page, drawn once, or once for each setting.

    Args:
        name: in the page's address.
        title, caption: what it shows, and how it is read.
        each: what it is drawn for: each setting, each curve (a setting without its number of labels), or all.
        tables: name in the specification -> frame of `Tables`.
        spec: Vega-Lite.
        legend: whether the strategies' colours and shapes are used.
    """

    name: str
    title: str
    caption: str
    each: Literal["setting", "curve", "all"]
    tables: Mapping[str, str]
    spec: Mapping[str, Any]
    legend: bool = True


def figures_of(tables: Tables) -> list[Figure]:
    """The figures that the study has rows for."""
    styles = _Styles(tables.runs.strategies)
    score = " or ".join(dict.fromkeys(tables.results["score"])) + ", in points"
    found = [
        _strip(styles, score),
        _cost(styles, score, "mean"),
        _cost(styles, score, "sd"),
        _ranks(styles),
        _mean_ranks(styles),
        _learning(styles, score),
        _disagreement(styles),
        _reliability(styles),
        _diversity(styles),
    ]
    has = {
        "ranks": tables.results["rank"].max() > 1,
        "mean-ranks": not tables.mean_ranks.empty,
        "learning": tables.results.groupby(["dataset", "model", "tuning", "other"])["labelled"].nunique().max() > 1,
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
        {"strategy": name, "colour": colour, "shape": shape}
        for name, colour, shape, _ in _Styles(strategies).each()
    ]  # fmt: skip


class _Styles:
    """One colour, shape and dash for each strategy, in all figures."""

    def __init__(self, strategies: Sequence[str]) -> None:
        self.names = list(strategies)
        _, colours, shapes, dashes = zip(*self.each(), strict=True)
        self.colour = alt.Color("g:N", legend=None, scale=_scale(colours))
        self.fill = alt.Fill("g:N", legend=None, scale=_scale(colours))
        self.shape = alt.Shape("g:N", legend=None, scale=_scale(shapes))
        self.dash = alt.StrokeDash("g:N", legend=None, scale=_scale(dashes))

    def each(self) -> Any:
        """Name, colour, shape and dash of each strategy; shapes go on changing when colours come again."""
        for at, name in enumerate(self.names):
            turn = at + at // len(COLOURS)
            yield name, COLOURS[at % len(COLOURS)], SHAPES[turn % len(SHAPES)], DASHES[turn % len(DASHES)]


def _scale(values: Sequence[Any]) -> alt.Scale:
    return alt.Scale(domain=list(range(len(values))), range=list(values))


def _spec(chart: Any, height: Any = 240) -> dict[str, Any]:
    """As wide as its place; text in it is text, whatever it holds."""
    return {**chart.properties(width="container", height=height).to_dict(), "config": CONFIG}


def _named(name: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name=name))


def _tips(*fields: str) -> list[alt.Tooltip]:
    """`field` or `field:format`, shown on hover."""
    return [_tip(*field.partition(":")[::2]) for field in fields]


_TITLES = {"sd": "SD", "jsd": "JSD", "tflops": "TFLOP", "member_steps": "member-steps"}


def _tip(name: str, form: str) -> alt.Tooltip:
    title = _TITLES.get(name, name.replace("_", " "))
    return alt.Tooltip(f"{name}:Q", title=title, format=form) if form else alt.Tooltip(f"{name}:N", title=title)


def _points(name: str, title: str, **more: Any) -> Any:
    return alt.X(f"{name}:Q", title=title, scale=alt.Scale(zero=False, nice=True), **more)


# ---- scores ----------------------------------------------------------------------------------------------------------


def _strip(styles: _Styles, score: str) -> Figure:
    rows = alt.Y("strategy:N", title=None, sort=ORDER, axis=alt.Axis(grid=False))
    seeds = (
        _named("runs")
        .transform_calculate(away="random()")
        .mark_point(size=42, opacity=0.8, strokeWidth=1.3)
        .encode(
            x=_points("points", score),
            y=rows,
            yOffset=alt.YOffset("away:Q", scale=alt.Scale(domain=[-0.5, 1.5])),
            color=styles.colour,
            shape=alt.condition("datum.at_chance", alt.value(FAILED), alt.value("circle")),
            tooltip=_tips("strategy", "block", "seed", "points:.2f", "at_chance"),
        )
    )
    spans = _named("results").encode(y=rows)
    tips = _tips("strategy", "seeds", "mean:.2f", "mean_low:.2f", "mean_high:.2f", "sd:.2f", "worst:.2f")
    interval = spans.mark_rule(strokeWidth=2, color=INK).encode(x="mean_low:Q", x2="mean_high:Q", tooltip=tips)
    means = spans.mark_tick(thickness=3, size=22, color=INK).encode(x="mean:Q", tooltip=tips)
    return Figure(
        "seeds",
        "Every seed",
        "A circle is one run; a cross is a run that is no better than the majority class. The bar is the mean, the "
        "line its interval of 95 % over seeds.",
        "setting",
        {"runs": "each_run", "results": "results"},
        _spec(seeds + interval + means, alt.Step(42)),
        legend=False,
    )


def _cost(styles: _Styles, score: str, of: Literal["mean", "sd"]) -> Figure:
    title = score if of == "mean" else "SD over the seeds, in points"
    x = alt.X("member_steps:Q", title="member-steps of a run", scale=alt.Scale(type="log", nice=False, padding=24))
    x = x.axis(format="~s", tickCount=5)
    base = _named("results").transform_filter(f"isValid(datum.{of}) && isValid(datum.member_steps)")
    y = alt.Y(f"{of}:Q", title=title, scale=alt.Scale(zero=False, padding=14))
    tips = _tips(
        "strategy", "seeds", "mean:.2f", "sd:.2f", "worst:.2f", "member_steps:,.0f", "seconds:,.1f", "tflops:,.2f"
    )
    front = base.transform_filter(f"datum.pareto_{of}").mark_line(color=QUIET, strokeDash=[4, 3])
    points = base.mark_point(size=110, filled=True, opacity=1, stroke=INK, strokeWidth=0.6)
    points = points.encode(x=x, y=y, fill=styles.fill, shape=styles.shape, tooltip=tips)
    best = "highest" if of == "mean" else "lowest"
    return Figure(
        f"cost-{of}",
        "What the mean costs" if of == "mean" else "What stability costs",
        "One optimiser step of one member is a member-step. The dashed line joins the strategies that no other one "
        f"beats in both: the {best} {of if of == 'mean' else 'SD'} for their cost (the Pareto front of the values as "
        "measured, without their intervals, and of all strategies, also those that a filter hides).",
        "setting",
        {"results": "results"},
        _spec(front.encode(x=x, y=y) + points),
    )


def _ranks(styles: _Styles) -> Figure:
    base = _named("results").encode(
        x=alt.X("strategy:N", title=None, sort=ORDER, axis=alt.Axis(labelAngle=-35, labelLimit=130)),
        y=alt.Y("setting:N", title=None, sort=None, axis=alt.Axis(labelLimit=170)),
    )
    colour = alt.Color("rank:Q", title="rank", scale=alt.Scale(scheme="cividis", reverse=True), legend=None)
    tips = _tips("setting", "strategy", "rank:.1f", "mean:.2f", "sd:.2f")
    cells = base.mark_rect().encode(color=colour, tooltip=tips)
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
        _spec(cells + text, alt.Step(26)),
        legend=False,
    )


def _mean_ranks(styles: _Styles) -> Figure:
    sort = alt.EncodingSortField("mean_rank", op="min")
    base = _named("mean_ranks").encode(
        y=alt.Y("strategy:N", title=None, sort=sort, axis=alt.Axis(grid=True)),
        tooltip=_tips("strategy", "mean_rank:.2f", "low:.2f", "high:.2f", "datasets", "p_value:.2g"),
    )
    bars = base.mark_rule(strokeWidth=2, color=INK).encode(x=_points("low", "mean rank (1 is best)"), x2="high:Q")
    points = base.mark_point(size=110, filled=True, opacity=1, stroke=INK, strokeWidth=0.6)
    return Figure(
        "mean-ranks",
        "Mean ranks over the datasets",
        "Strategies differ where their lines do not overlap (each is half of Nemenyi's critical difference to either "
        "side, at 5 %) and Friedman's test has p < 0.05 (on hover). Of the strategies that ran on all datasets, and "
        "always over all of them: a filter hides rows, and changes no rank.",
        "setting",
        {"mean_ranks": "mean_ranks"},
        _spec(bars + points.encode(x="mean_rank:Q", fill=styles.fill, shape=styles.shape), alt.Step(30)),
        legend=False,
    )


def _learning(styles: _Styles, score: str) -> Figure:
    x = alt.X("labelled:Q", title="labelled texts", scale=alt.Scale(type="log", nice=False, padding=16))
    x = x.axis(format="~s", tickCount=5)
    base = _named("results").transform_filter("isNumber(datum.labelled)")
    y = alt.Y("mean:Q", title=score, scale=alt.Scale(zero=False))
    band = base.mark_area(opacity=0.09).encode(
        x=x, y=alt.Y("mean_low:Q", title=score), y2="mean_high:Q", fill=styles.fill
    )
    line = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=styles.colour, strokeDash=styles.dash)
    tips = _tips("strategy", "labelled", "mean:.2f", "mean_low:.2f", "mean_high:.2f", "sd:.2f", "seeds")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x=x, y=y, fill=styles.fill, shape=styles.shape, tooltip=tips
    )
    return Figure(
        "learning",
        "Learning curves",
        "Mean over the seeds against the number of labelled texts; the band is its interval of 95 %.",
        "curve",
        {"results": "results"},
        _spec(band + line + points),
    )


# ---- predictions -----------------------------------------------------------------------------------------------------


def _disagreement(styles: _Styles) -> Figure:
    chart = (
        _named("instability")
        .transform_filter("isValid(datum.disagreement)")
        .mark_point(filled=True, size=110, opacity=1, stroke=INK, strokeWidth=0.6)
        .encode(
            x=alt.X("disagreement:Q", title="texts on which two seeds disagree, in %", scale=alt.Scale(zero=True)),
            y=alt.Y("strategy:N", title=None, sort=ORDER, axis=alt.Axis(grid=True)),
            fill=styles.fill,
            shape=styles.shape,
            tooltip=_tips("strategy", "disagreement:.2f", "kappa:.3f", "jsd:.4f"),
        )
    )
    return Figure(
        "disagreement",
        "Do the seeds agree, text by text?",
        "Runs of equal score can be right on other texts. The share of test texts on which two seeds choose different "
        "classes, mean over all pairs of seeds: lower is more stable.",
        "setting",
        {"instability": "instability"},
        _spec(chart, alt.Step(30)),
        legend=False,
    )


def _reliability(styles: _Styles) -> Figure:
    ends = alt.Chart(alt.InlineData([{"at": 0}, {"at": 100}]))
    exact = ends.mark_line(color=QUIET, strokeDash=[4, 3]).encode(x="at:Q", y="at:Q")
    scale = alt.Scale(domain=[0, 100])
    base = _named("reliability").encode(
        x=alt.X("confidence:Q", title="confidence, in %", scale=scale),
        y=alt.Y("accuracy:Q", title="accuracy, in %", scale=scale),
    )
    tips = _tips("strategy", "confidence:.1f", "accuracy:.1f", "share:.1f")
    line = base.mark_line(strokeWidth=1.6).encode(color=styles.colour, strokeDash=styles.dash)
    points = base.mark_point(filled=True, size=55, opacity=1).encode(fill=styles.fill, shape=styles.shape, tooltip=tips)
    return Figure(
        "reliability",
        "Can the probabilities be trusted?",
        "Test texts of all runs in ten bins by the confidence of the vote. On the dashed line confidence is accuracy; "
        "below it the model is too sure. Bins with few texts (see the share on hover) are uncertain.",
        "setting",
        {"reliability": "reliability"},
        _spec(exact + line + points),
    )


def _diversity(styles: _Styles) -> Figure:
    x = alt.X("step:Q", title="optimiser step")
    y = alt.Y("disagreement_at_fork:Q", title="members disagree on, in % of texts")
    told = ("strategy", "fork", "members", "step", "stop", "ends_in", "runs")
    shares = [f"{what}_at_{at}:.2f" for what in ("disagreement", "distance") for at in ("fork", "end")]
    tips = _tips(*told, *shares)
    base = _named("diversity")
    both = base.transform_filter("isValid(datum.disagreement_at_fork)")
    lines = both.mark_rule(strokeWidth=2).encode(
        x=x, x2="stop:Q", y=y, y2="disagreement_at_end:Q", color=styles.colour, strokeDash=styles.dash, tooltip=tips
    )
    starts = both.mark_point(size=50, opacity=1).encode(x=x, y=y, color=styles.colour, shape=styles.shape, tooltip=tips)
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
        _spec(lines + starts + ends),
    )
