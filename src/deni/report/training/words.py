"""The report of one training in words: for the terminal, and for the head of the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deni.analysis.numbers import number
from deni.report.training.facts import Facts
from deni.report.training.tested import FEW, OnTest

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST_CLASSES = 8  # of a confusion matrix in a terminal; of more, the most frequent errors
MOST_TEXTS = 3


@dataclass(frozen=True)
class Tile:
    """One figure with what it means.

    Args:
        name: of what.
        value: as text.
        note: how to read it.
    """

    name: str
    value: str
    note: str


def tiles_of(facts: Facts) -> list[Tile]:
    """The figures to read first."""
    found = [] if facts.on_test is None else list(_of_test(facts.on_test))
    times = "as much as plain training" if facts.cost == 1 else f"{facts.cost:.1f} times plain training"
    predict = f"{facts.voters} members predict" if facts.voters > 1 else "one model predicts"
    part = " since it was resumed" if facts.resumed else ""
    steps = f"{facts.member_steps:,} member-steps"
    return [*found, Tile("cost", steps, f"{times}; {facts.seconds:.0f} seconds{part}; {predict}")]


def _of_test(test: OnTest) -> Iterator[Tile]:
    points = test.task != "regression"
    value, low, high = (score(each, points) for each in test.score)
    note = f"95 % interval {low} to {high}: other test texts, not other seeds"
    if points and test.score.value == 1:  # a bootstrap knows nothing of errors that did not happen
        note = f"no error in {test.texts} test texts; up to {min(100.0, 300 / test.texts):.1f} % of others may be wrong"
    elif test.texts < FEW:
        note += f"; fewer than {FEW} texts: likely too narrow"
    yield Tile(f"expected {test.name}", value, note)
    first, *others = test.chance.items()
    also = "".join(f"; its {name} is {score(base, points)}" for name, (_, base) in others)
    own, base = (score(each, points) for each in first[1])
    yield Tile(
        f"{first[0]} against chance",
        f"{own} against {base}",
        f"chance is always answering {cut(test.always, 60)}{also}",
    )
    if test.calibration is not None:
        yield Tile(
            "calibration", f"ECE {100 * float(test.calibration.ece):.1f} %", "confidence minus accuracy, in bins"
        )
    if test.disagreement is not None and test.task == "regression":
        yield Tile("members", f"SD {test.disagreement:.3g}", f"of their numbers for a text; {_alone(test)}")
    elif test.disagreement is not None:
        differs = ""
        if test.parent_differs is not None:
            differs = f"; the vote differs from the parent alone on {100 * test.parent_differs:.1f} %"
        share = f"of {test.examples}: two members choose differently, mean over pairs{differs}; {_alone(test)}"
        yield Tile("members disagree", f"{100 * test.disagreement:.1f} %", share)


def _alone(test: OnTest) -> str:
    low, high = (
        score(each, test.task != "regression") for each in (test.member_scores.min(), test.member_scores.max())
    )
    return f"alone they score {low} to {high}"


def score(value: float, points: bool) -> str:
    """A score in points, or as it is."""
    return number(100 * float(value), 1) if points else number(float(value), 3)


def cut(text: str, most: int) -> str:
    """A text on one line, cut where it is long, without what a terminal would obey."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def tell(facts: Facts, table: Table, console: Console) -> None:
    """Write the report on a terminal, below the rows that the table has."""
    from rich.text import Text

    for tile in tiles_of(facts):
        table.add_row(tile.name, Text(f"{cut(tile.value, 200)} ({cut(tile.note, 300)})"))
    test = facts.on_test
    if test is not None:
        for name, rest in (("most confused", test.confused[:MOST_TEXTS]),):
            if rest and test.confusion is not None and len(test.labels) > MOST_CLASSES:
                said = (f"{cut(gold, 30)} taken for {cut(chosen, 30)} ({count})" for gold, chosen, count in rest)
                table.add_row(name, Text("; ".join(said)))
        for at, each in enumerate(test.uncertain[:MOST_TEXTS]):
            text = cut(" | ".join(each.parts), 70)
            answer = (
                f"rightly {cut(each.gold, 30)}" if each.right else f"{cut(each.said, 30)}, right: {cut(each.gold, 30)}"
            )
            table.add_row("" if at else "most uncertain", Text(f"{text} → {answer}"))
    for part in ("test", "members", "uncertain"):  # the page has the other reasons, too
        if part in facts.missing:
            table.add_row("left out", Text(facts.missing[part]))
    console.print(table)
    if test is not None and test.confusion is not None and len(test.labels) <= MOST_CLASSES:
        console.print(_confusion(test))


def _confusion(test: OnTest) -> Table:
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
