"""`deni inspect`: what is in a file of texts, before anybody trains on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from deni.cli import example
from deni.cli.options.data import data_options, task_options
from deni.cli.options.device import DEVICE
from deni.data import check_data
from deni.inputs import check_pretrained
from deni.outputs import check_file
from deni.tasks.remarks import many, percent
from deni.terminal import console, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deni.commands.inspect import Part, Report

MOST_CLASSES = MOST_WRONG = 20  # rows of the tables


@click.command("inspect", epilog=example("deni inspect tickets.csv --test held_out.csv"))
@click.argument("file")
@click.option("--test", help="Test file or dataset; texts of it that are in FILE, too, are reported.")
@click.option(
    "--model",
    help="Model whose tokens are counted: minilm, a folder, or a hub id. One that deni train --cv wrote checks the "
    "labels, too.  [default: minilm]",
)
@click.option(
    "--wrong-labels",
    is_flag=True,
    help="Look for wrong labels with any encoder, by a cross-validated regression on its vectors.",
)
@data_options
@click.option("--label-column", help="Column of the labels.  [default: the dataset's own, or label, if there is one]")
@click.option("--test-text-column", help="Column of the test file's texts.  [default: that of FILE, or text]")
@click.option("--test-text-pair-column", help="Column of the test file's second texts.  [default: that of FILE]")
@click.option("--test-label-column", help="Column of the test file's labels.  [default: that of FILE, or label]")
@task_options
@DEVICE
@click.option(
    "--json", "json_file", help="File to write everything to, as JSON; - for standard output, without tables."
)
@click.option("--overwrite", is_flag=True, help="Replace the JSON file.")
def command(
    file: str,
    test: str | None,
    model: str | None,
    wrong_labels: bool,
    task: str | None,
    label_order: tuple[str, ...],
    json_file: str | None,
    overwrite: bool,
    **columns: str | None,
) -> None:
    """Check FILE before training on it.

    FILE has labels or not; - is standard input. It may be a dataset as in `deni train`, too.

    Errors stop training, warnings are likely mistakes and come before training, too, and notes are good to know.
    """
    check_data(file, test)
    check_pretrained(model)
    if json_file not in (None, "-"):
        check_file(json_file, overwrite, [file, test, model])

    from deni.commands.inspect import inspect_file
    from deni.errors import InputError

    report = inspect_file(
        file,
        test=test,
        model=model,
        wrong_labels=wrong_labels,
        task=task,
        label_order=label_order,
        **columns,
        progress=True,
    )
    if json_file == "-":
        say(json.dumps(report.as_dict(), indent=1, ensure_ascii=False))
    else:
        screen = console()
        for each in _shown(report):
            screen.print(each)
    if json_file not in (None, "-"):
        report.save(json_file, overwrite)
    if report.error is not None:
        raise InputError(str(report.error))


def _shown(report: Report) -> list[RenderableType]:
    """The report in 80 columns: what there is, what is wrong with it, then the figures."""
    from rich.text import Text

    shown: list[RenderableType] = [
        Text(f"{prefix}{_heading(part)}") for prefix, part in zip(("", "test: "), report.parts, strict=False)
    ]
    shown.append(Text(report.summary(), style="bold"))
    if report.findings:
        shown += ["", _findings(report)]
    if report.wrong_labels:
        shown += ["", *_wrong_labels(report)]
    if report.parts[0].classes:
        shown += ["", *_classes(report)]
    if report.parts[0].numbers:
        shown += ["", *_numbers(report)]
    if report.parts[0].lengths is not None:
        shown += ["", *_lengths(report)]
    return shown


def _heading(part: Part) -> str:
    what = [many(part.texts, "pair" if part.pairs else "text")]
    if part.classes:
        what.append(many(len(part.classes), "label" if part.labels_per_text else "class"))
    elif not part.labelled:
        what.append("no labels")
    return f"{part.source}: {', '.join(what)}"


def _findings(report: Report) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    styles = {"error": "bold red", "warning": "yellow", "note": "cyan"}
    table = Table.grid(padding=(0, 2, 0, 0))
    for finding in report.findings:
        of_test = finding.source != report.parts[0].source
        message = Text(f"test: {finding.message}" if of_test else finding.message)
        examples = (
            Text(f"{where}: {what}", style="dim", no_wrap=True, overflow="ellipsis") for where, what in finding.examples
        )
        table.add_row(Text(finding.severity, style=styles[finding.severity]), Group(message, *examples))
    return table


def _wrong_labels(report: Report) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    wrong = report.wrong_labels or ()
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("likely wrong", no_wrap=True, min_width=max(12, *(len(each.row) for each in wrong[:MOST_WRONG])))
    for heading, labels in (
        ("label", [each.given for each in wrong[:MOST_WRONG]]),
        ("suggested", [each.suggested for each in wrong[:MOST_WRONG]]),
    ):
        widest = max(len(heading), *(len(label) for label in labels))
        table.add_column(heading, min_width=min(widest, 14), max_width=14, no_wrap=True, overflow="ellipsis")
    table.add_column("sure", min_width=5, justify="right")
    table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
    for each in wrong[:MOST_WRONG]:
        text = each.text if each.word is None else f"{each.word} in: {each.text}"
        sure = "" if each.confidence is None else percent(each.confidence)
        table.add_row(
            each.row, *(Text(part) for part in (each.given, each.suggested, sure)), Text(" ".join(text.split()))
        )
    more = len(wrong) - MOST_WRONG
    return [table, Text(f"... {more:,} more; --json writes all of them.")] if more > 0 else [table]


def _classes(report: Report) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from deni.errors import short

    first = report.parts[0]
    table = Table("label", box=None, pad_edge=False)
    for heading in ("texts", "test") if len(report.parts) > 1 else ("texts",):
        table.add_column(heading, justify="right")
        table.add_column("", justify="right")
    labels = list(dict.fromkeys(label for part in report.parts for label in part.classes))
    half = MOST_CLASSES // 2
    kept = labels if len(labels) <= MOST_CLASSES else [*labels[:half], None, *labels[-half:]]
    for label in kept:
        if label is None:
            table.add_row(f"... {len(labels) - 2 * half:,} more")
            continue
        cells = []
        for part in report.parts:
            count = part.classes.get(label, 0)
            cells += [f"{count:,}", percent(count / part.texts)]
        table.add_row(Text(short(label, 40)), *cells)
    shown: list[RenderableType] = [table]
    if first.labels_per_text:
        each = ", ".join(f"{number} ({texts:,})" for number, texts in first.labels_per_text.items())
        shown.append(Text(f"Labels of a text (and how many texts have as many): {each}"))
    if first.tags:
        each = ", ".join(f"{short(tag, 40)} ({words:,})" for tag, words in list(first.tags.items())[:MOST_CLASSES])
        more = f", {len(first.tags) - MOST_CLASSES:,} more" if len(first.tags) > MOST_CLASSES else ""
        shown.append(Text(f"Tags (and how many words have them): {each}{more}"))
    if first.baseline:
        figures = f"accuracy {first.baseline['accuracy']:.3f}, macro F1 {first.baseline['macro_f1']:.3f}"
        shown.append(Text(f"Always {short(next(iter(first.classes)), 40)} would score {figures}."))
    return shown


def _numbers(report: Report) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    first = report.parts[0].numbers
    table = Table("numbers", box=None, pad_edge=False)
    for heading in first:
        table.add_column(heading, justify="right")
    for name, part in zip(("texts", "test"), report.parts, strict=False):
        if part.numbers:
            table.add_row(name, *(f"{value:,.4g}" for value in part.numbers.values()))
    return [table, Text(f"Always the mean would have an RMSE of {first['sd']:.4g}.")]


def _lengths(report: Report) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    first = report.parts[0].lengths
    assert first is not None
    table = Table("tokens", box=None, pad_edge=False)
    for rank in first.percentiles:
        table.add_column("longest" if rank == 100 else f"{rank} %", justify="right")
    table.add_column(f"over {first.limit}", justify="right")
    for name, part in zip(("texts", "test"), report.parts, strict=False):
        if part.lengths is not None:
            figures = [f"{tokens:,}" for tokens in part.lengths.percentiles.values()]
            table.add_row(name, *figures, percent(part.lengths.over_limit))
    sampled = "" if first.counted == report.parts[0].texts else f", on {first.counted:,} texts evenly spaced"
    return [
        table,
        Text(
            f"Tokens of {first.model}, which reads {first.limit} at most{sampled}. deni train would cut at "
            f"{first.max_length} (--max-length), which shortens {percent(first.cut / first.counted)} of the texts."
        ),
    ]
