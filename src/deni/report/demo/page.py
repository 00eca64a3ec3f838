"""The demo's result as a page that needs no script: what it says, a dot plot, the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deni.commands.demo import Row, state_differences
from deni.errors import InputError
from deni.outputs import as_utf8, write_bytes
from deni.report.demo.scale import place_of, ticks_of
from deni.report.html.frame import render_still

WHAT = {
    "default": "plain fine-tuning",
    "frozen": "the encoder as it is, and a logistic regression on its vectors",
    "ensemble": "several models, fine-tuned one by one, vote",
    "deni": "one model forks into members, which are averaged, and at the end vote",
    "auto": "what deni train takes unless you say otherwise",
}


def check_page() -> None:
    """Raise InputError where the package is missing that the page needs: before the work, not after it."""
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise InputError('the page needs the package jinja2: pip install "deni[demo]"') from None


def write_page(rows: Sequence[Row], result: dict[str, Any], output: str | Path, overwrite: bool = False) -> None:
    """Write the page, whole or not at all."""
    write_bytes(Path(output), as_utf8(build_page(rows, result)), overwrite, kept="the page is")


def build_page(rows: Sequence[Row], result: dict[str, Any]) -> str:
    """The page as HTML; every name in it is escaped."""
    ticks = ticks_of(score for row in rows for score in row.macro_f1)
    strips = [
        {
            "strategy": row.strategy,
            "what": WHAT.get(row.strategy, ""),
            "dots": [f"{100 * place_of(score, ticks):.2f}" for score in row.macro_f1],
            "mean": f"{100 * place_of(row.mean, ticks):.2f}",
            "told": ", ".join(f"{100 * score:.1f}" for score in row.macro_f1),
        }
        for row in rows
    ]
    axis = [(tick, f"{100 * place_of(tick / 100, ticks):.2f}") for tick in ticks]
    return render_still(
        "demo",
        "What the seed changes, and what helps",
        rows=rows,
        result=result,
        sentences=list(state_differences(rows)),
        strips=strips,
        axis=axis,
    )
