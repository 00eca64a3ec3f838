"""The demo's result in a terminal of 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from deni.commands.demo import Row
from deni.report.demo.scale import place_of, ticks_of

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 64  # of the plot, without names


def table(rows: Sequence[Row], result: dict[str, Any]) -> Table:
    """A line for each strategy."""
    from rich.table import Table

    shown = Table(
        "strategy",
        "macro F1 of each seed",
        title=f"{result['train_texts']} labeled texts, {result['test_texts']} test",
    )
    for heading in ("mean", "SD", "member-\nsteps", "seconds"):
        shown.add_column(heading, justify="right")
    for row in rows:
        each = "  ".join(f"{100 * f1:.1f}" for f1 in row.macro_f1)
        spread = f"{100 * row.sd:.1f}" if len(row.macro_f1) > 1 else ""
        shown.add_row(row.strategy, each, f"{100 * row.mean:.1f}", spread, str(row.member_steps), f"{row.seconds:.0f}")
    return shown


def dot_plot(rows: Sequence[Row], width: int = WIDTH) -> Iterator[str]:
    """The seeds of each strategy as dots on one axis; a digit is as many seeds at one place.

    >>> import numpy as np
    >>> right = np.arange(10) % 2
    >>> half = np.where(np.arange(10) < 6, right, 1 - right)
    >>> for line in dot_plot([Row("plain", np.stack([half, half, right]), right)], width=20):
    ...     print(line)
    plain    2                   ●
             60       80      100
    """
    ticks = ticks_of(score for row in rows for score in row.macro_f1)
    margin = max(8, *(len(row.strategy) for row in rows))
    for row in rows:
        places = Counter(round(place_of(score, ticks) * (width - 1)) for score in row.macro_f1)
        marks = [" "] * width
        for place, seeds in places.items():
            marks[place] = "●" if seeds == 1 else str(min(seeds, 9))
        yield f"{row.strategy:{margin}} {''.join(marks)}".rstrip()
    axis = [" "] * (width + 3)
    for tick in ticks:
        label = str(tick)
        start = max(0, round((tick - ticks[0]) / (ticks[-1] - ticks[0]) * (width - 1)) - len(label) // 2)
        axis[start : start + len(label)] = label
    yield f"{'':{margin}} {''.join(axis)}".rstrip()
