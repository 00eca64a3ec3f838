"""`deni demo`: plain fine-tuning, what `auto` chooses and DENI on built-in texts."""

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


@click.command("demo", cls=GroupedCommand, epilog=example("deni demo --seeds 3 --labeled 90"))
@click.option("--seeds", type=click.IntRange(1, MOST), default=3, show_default=True, help="Runs of each strategy.")
@click.option(
    "--labeled",
    "labelled",
    type=click.IntRange(min=6, max=600),
    default=90,
    show_default=True,
    help="Labeled texts to train on.",
)
@click.option(
    "--epochs",
    type=Finite(min=0, min_open=True),
    help="Passes over the training texts.  [default: 7; auto chooses]",
)
@click.option("--model", default="minilm", show_default=True, help="Pre-trained model: minilm, a folder, or a hub id.")
@click.option("--tuning", type=Choice(["full", "lora"]), help="Which parameters train.  [default: full; auto chooses]")
@click.option("--json", "json_file", help="File to write the result to, as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace the JSON file.")
def command(
    seeds: int,
    labelled: int,
    epochs: float | None,
    model: str,
    tuning: str | None,
    json_file: str | None,
    overwrite: bool,
) -> None:
    """Compare plain training, auto and DENI on built-in messages.

    The messages are those of a support desk, in English.
    """
    check_pretrained(model)
    if json_file is not None:
        check_file(json_file, overwrite, [model])

    from rich.table import Table

    from deni.commands.demo import run_demo

    screen = console()
    rows, result = run_demo(model, tuning, seeds=seeds, labelled=labelled, epochs=epochs, progress=True)
    table = Table("strategy", "macro F1 of each seed", title=f"{labelled} labeled texts, {result['test_texts']} test")
    for heading in ("mean", "SD", "min", "member-steps", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        each = "  ".join(f"{100 * f1:.1f}" for f1 in row.macro_f1)
        figures = (f"{100 * value:.1f}" for value in (row.mean, row.sd, min(row.macro_f1)))
        table.add_row(row.strategy, each, *figures, str(row.member_steps), f"{row.seconds:.0f}")
    screen.print(table)
    screen.print(f"{seeds} seeds show how it works; they prove nothing about the mean or the spread.")
    if json_file is not None:
        write_bytes(Path(json_file), f"{json.dumps(result, indent=1)}\n".encode(), overwrite, kept="the result is")
