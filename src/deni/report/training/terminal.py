"""The report of one training on a terminal: a few lines, and the confusion matrix where it is small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deni.analysis.performance import Performance
from deni.report.training.summary import TrainingSummary
from deni.report.training.tiles import build_tiles, cut
from deni.report.training.verdict import state_verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST_CLASSES = 8  # of a confusion matrix in a terminal; of more, the most frequent errors
MOST_TEXTS = 3


def print_summary(summary: TrainingSummary, table: Table, console: Console) -> None:
    """Write the report on a terminal: the verdict, and below it the table with what it has and what was found."""
    from rich.text import Text

    for sentence in state_verdict(summary):
        console.print(Text(f"- {sentence}"))
    console.print()
    for tile in build_tiles(summary):
        table.add_row(tile.name, Text(f"{cut(tile.value, 200)} ({cut(tile.note, 300)})"))
    test = summary.on_test
    if test is not None:
        confused = test.confused[:MOST_TEXTS]
        if confused and len(test.labels) > MOST_CLASSES:
            pairs = (f"{cut(gold, 30)} taken for {cut(chosen, 30)} ({count})" for gold, chosen, count in confused)
            table.add_row("most confused", Text("; ".join(pairs)))
        for at, each in enumerate(test.uncertain[:MOST_TEXTS]):
            text = cut(" | ".join(each.parts), 70)
            gold, predicted = cut(each.gold, 30), cut(each.predicted, 30)
            answer = f"rightly {gold}" if each.right else f"{predicted}, right: {gold}"
            table.add_row("" if at else "most uncertain", Text(f"{text} → {answer}"))
    for part in ("test", "members", "uncertain"):  # the page has the other reasons, too
        if part in summary.missing:
            table.add_row("left out", Text(summary.missing[part]))
    console.print(table)
    if test is not None and test.confusion is not None and len(test.labels) <= MOST_CLASSES:
        console.print(_confusion(test))


def _confusion(test: Performance) -> Table:
    from rich.table import Table
    from rich.text import Text

    assert test.confusion is not None
    table = Table(title=Text("confusion matrix: rows are right, columns predicted", style="not italic"), box=None)
    table.add_column("")
    for label in test.labels:
        table.add_column(Text(cut(label, 12)), justify="right")
    for label, row in zip(test.labels, test.confusion.tolist(), strict=True):
        table.add_row(Text(cut(label, 24)), *(f"{count:,}" if count else "·" for count in row))
    return table
