"""The figures as SVG files, for papers and pages that run no scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from deni.analysis.runs import WHERE
from deni.analysis.tables import Tables
from deni.report.charts import INK, LINE, QUIET, Figure
from deni.report.figures import build_figures
from deni.report.html.frame import json_value

MOST = 12  # drawings of a figure
WIDTH = 420
LABELS = 320  # the widest label, in pixels
PADDING = {"left": 56, "right": 64, "top": 6, "bottom": 6}  # a browser's letters may be wider than vl-convert's
_COLOURS = {INK: "#1f2328", QUIET: "#59636e", LINE: "#d1d9e0"}  # of the page's properties, on paper


def draw_svgs(tables: Tables) -> Iterator[tuple[str, str]]:
    """Name and SVG of each figure, of the first twelve settings; those of one setting are named after the figure."""
    import vl_convert

    for figure in build_figures(tables):
        rows = {name: _rows(getattr(tables, frame), tables) for name, frame in figure.tables.items()}
        titles = list(dict.fromkeys(_title(figure, row) for each in rows.values() for row in each))
        for title in titles[:MOST]:
            own = {name: [row for row in each if _title(figure, row) == title] for name, each in rows.items()}
            spec = _spec(figure, title if len(titles) > 1 else "", own, tables.runs.strategies)
            yield f"{figure.name}{f'-{_plain(title)}' if len(titles) > 1 else ''}", vl_convert.vegalite_to_svg(spec)


def _rows(frame: pd.DataFrame, tables: Tables) -> list[dict[str, Any]]:
    settings = {each.key: each for each in tables.runs.settings}
    numbers = {name: at for at, name in enumerate(tables.runs.strategies)}
    found = []
    for record in frame.to_dict("records"):
        row = {str(name): json_value(value) for name, value in record.items()}
        setting = settings.get(tuple(record[name] for name in WHERE[1:])) if "dataset" in record else None
        labels = (setting.label, setting.curve) if setting else (record["over"], record["over"])
        found.append({**row, "g": numbers[record["strategy"]], "setting": labels[0], "curve": labels[1]})
    return found


def _title(figure: Figure, row: dict[str, Any]) -> str:
    return "" if figure.each == "all" else str(row[figure.each])


def _spec(figure: Figure, title: str, rows: dict[str, list[dict[str, Any]]], strategies: list[str]) -> dict[str, Any]:
    """On paper: a width, plain colors, and a legend with names, which the page has beside its figures."""
    legend = {"title": None, "labelExpr": f"{json.dumps(strategies)}[datum.value]", "labelLimit": LABELS}
    shown = sorted({row["g"] for each in rows.values() for row in each})

    def on_paper(value: Any) -> Any:
        if isinstance(value, dict):
            new = {name: on_paper(each) for name, each in value.items()}
            if figure.legend and "legend" in new and new.get("field") == "g":
                new["legend"] = {**legend, "values": shown}
            return new
        if isinstance(value, list):
            return [on_paper(each) for each in value]
        return _COLOURS.get(value, value) if isinstance(value, str) else value

    spec = on_paper(dict(figure.spec))
    lines = len({row["setting"] if figure.each == "all" else row["g"] for each in rows.values() for row in each})
    if isinstance(spec["height"], dict):
        spec["height"] = spec["height"]["step"] * lines
    axis = {**spec["config"]["axis"], "labelLimit": LABELS}
    return {
        **spec,
        "width": WIDTH,
        "padding": PADDING,
        "config": {**spec["config"], "axis": axis},
        "title": {"text": title, "anchor": "start", "fontWeight": "normal"} if title else None,
        "datasets": {**spec.get("datasets", {}), **rows},
        "background": "white",
    }


def _plain(title: str) -> str:
    """A title as a part of a file's name."""
    return re.sub(r"[^\w.=-]+", "_", title).strip("_")
