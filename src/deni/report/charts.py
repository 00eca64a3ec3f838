"""How every figure looks: colors, shapes, fonts, and the small parts that figures are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt

# Okabe & Ito's colors, told apart by people with any color vision; a shape and dashes say the same once more.
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
        **{"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 200},
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
        tables: name in the specification -> frame of the page's data.
        spec: Vega-Lite.
        legend: whether the strategies' colors and shapes are used.
    """

    name: str
    title: str
    caption: str
    each: Literal["setting", "curve", "all"]
    tables: Mapping[str, str]
    spec: Mapping[str, Any]
    legend: bool = True


class Styles:
    """One color, shape and dash for each strategy, in all figures."""

    def __init__(self, strategies: Sequence[str]) -> None:
        self.names = list(strategies)
        _, colors, shapes, dashes = zip(*self.each(), strict=True)
        self.color = alt.Color("g:N", legend=None, scale=scale_of(colors))
        self.fill = alt.Fill("g:N", legend=None, scale=scale_of(colors))
        self.shape = alt.Shape("g:N", legend=None, scale=scale_of(shapes))
        self.dash = alt.StrokeDash("g:N", legend=None, scale=scale_of(dashes))

    def each(self) -> Any:
        """Name, color, shape and dash of each strategy; shapes go on changing when colors come again."""
        for at, name in enumerate(self.names):
            turn = at + at // len(COLOURS)
            yield name, COLOURS[at % len(COLOURS)], SHAPES[turn % len(SHAPES)], DASHES[turn % len(DASHES)]


def scale_of(values: Sequence[Any]) -> alt.Scale:
    """Values for the numbers from 0 on."""
    return alt.Scale(domain=list(range(len(values))), range=list(values))


def spec_of(chart: Any, height: Any = 240) -> dict[str, Any]:
    """As wide as its place; text in it is text, whatever it holds."""
    return {**chart.properties(width="container", height=height).to_dict(), "config": CONFIG}


def named(name: str) -> alt.Chart:
    """A chart of rows that the page gives."""
    return alt.Chart(alt.NamedData(name=name))


def tips_of(*fields: str) -> list[alt.Tooltip]:
    """`field` or `field:format`, shown on hover."""
    return [_tip(*field.partition(":")[::2]) for field in fields]


_TITLES = {"sd": "SD", "jsd": "JSD", "tflops": "TFLOP", "member_steps": "member-steps"}


def _tip(name: str, form: str) -> alt.Tooltip:
    title = _TITLES.get(name, name.replace("_", " "))
    return alt.Tooltip(f"{name}:Q", title=title, format=form) if form else alt.Tooltip(f"{name}:N", title=title)


def points_axis(name: str, title: str, **more: Any) -> Any:
    """A horizontal axis that need not begin at 0."""
    return alt.X(f"{name}:Q", title=title, scale=alt.Scale(zero=False, nice=True), **more)
