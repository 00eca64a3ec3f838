"""`deni demo`: plain fine-tuning, a frozen encoder, an ensemble, DENI and `auto` on built-in texts."""

from __future__ import annotations

import json
from pathlib import Path

import click

from deni.cli import example
from deni.cli.options.choice import Choice
from deni.cli.options.groups import GroupedCommand
from deni.cli.options.numbers import MOST, Finite
from deni.inputs import check_pretrained
from deni.outputs import check_file, write_bytes
from deni.terminal import console

PAGE = "deni_demo.html"


@click.command("demo", cls=GroupedCommand, epilog=example("deni demo --seeds 3 --labeled 90"))
@click.option("--seeds", type=click.IntRange(1, MOST), default=5, show_default=True, help="Runs of each strategy.")
@click.option(
    "--labeled",
    "labelled",
    type=click.IntRange(min=6, max=120),
    default=60,
    show_default=True,
    help="Labeled texts to train on.",
)
@click.option(
    "--epochs",
    type=Finite(min=0, min_open=True),
    help="Passes over the training texts.  [default: 4]",
)
@click.option("--model", default="minilm", show_default=True, help="Pre-trained model: minilm, a folder, or a hub id.")
@click.option("--tuning", type=Choice(["full", "lora"]), help="Which parameters train.  [default: full; auto chooses]")
@click.option("--output", default=PAGE, show_default=True, help="Report page to write.")
@click.option("--json", "json_file", help="File to write the result to, as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace the page and the JSON file.")
def command(
    seeds: int,
    labelled: int,
    epochs: float | None,
    model: str,
    tuning: str | None,
    output: str,
    json_file: str | None,
    overwrite: bool,
) -> None:
    """Compare strategies over seeds on built-in messages.

    Plain training, a frozen encoder, an ensemble, DENI and auto learn the same messages of a support desk. The
    result is a table, a dot plot, and a report page.
    """
    check_pretrained(model)
    check_file(output, overwrite, [model])
    if json_file is not None:
        check_file(json_file, overwrite, [model, output])

    from deni.commands.demo import run_demo, state_differences
    from deni.report.demo import check_page, dot_plot, table, write_page

    check_page()
    screen = console()
    rows, result = run_demo(model, tuning, seeds=seeds, labelled=labelled, epochs=epochs, progress=True)
    screen.print(table(rows, result))
    for line in (*dot_plot(rows), "", *state_differences(rows)):
        screen.print(line)
    write_page(rows, result, output, overwrite)
    if json_file is not None:
        write_bytes(Path(json_file), f"{json.dumps(result, indent=1)}\n".encode(), overwrite, kept="the result is")
    screen.print(f"Report: {output}")
