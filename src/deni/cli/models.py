"""`deni models`: which encoder, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deni.cli import example
from deni.cli.options import training
from deni.cli.options.data import LABEL, TEST, data_options, task_options
from deni.cli.options.device import DEVICE
from deni.data import check_data, check_split
from deni.inputs import check_pretrained, distinct_models
from deni.outputs import check_file, write_bytes
from deni.terminal import console, say

if TYPE_CHECKING:
    from rich.table import Table

    from deni.commands.models import ModelComparison


@click.command("models", epilog=example("deni models tickets.csv --models minilm,bert-base-uncased"))
@click.argument("file")
@click.option("--models", required=True, metavar="A,B,C", help="Models to compare: minilm, folders, or hub ids.")
@training.LABELLED
@TEST
@data_options
@LABEL
@task_options
@training.MAX_LENGTH
@training.BLOCK
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--output", help="JSON file to write the comparison to, too.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def command(
    file: str,
    models: str,
    device: str | None,
    as_json: bool,
    output: str | None,
    overwrite: bool,
    progress: bool,
    **given: Any,
) -> None:
    """Compare encoders on the texts of FILE, without training one.

    Each reads the texts once, as it is, and a regression on its vectors is cross-validated. Test texts stay out.
    """
    names = distinct_models(models.split(","))
    check_data(file)
    check_split(given["test"])
    for name in names:
        check_pretrained(name)
    if output is not None:
        check_file(output, overwrite, [file, given["test"], *names])

    from deni.recipe import Recipe

    how = {name: given.pop(name) for name in ("task", "max_length")}
    recipe = Recipe.of(strategy="default", data=file, **how)

    from deni.commands.models import compare_models

    found = compare_models(file, names, recipe=recipe, device=device, progress=progress, **given)
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
    if as_json:
        say(text)
    else:
        console().print(_table(found))
        say("Scores are means over folds; differences are paired, with 95 % intervals over folds.")
        say(f"Next: deni train {file} --model {found.rows[0].model} --output model/")
    if output is not None:
        write_bytes(Path(output), f"{text}\n".encode(errors="backslashreplace"), overwrite, kept="the comparison is")


def _table(found: ModelComparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    from deni.tasks import TASKS

    task = TASKS[found.task]
    factor, digits = (100, 1) if task.in_points else (1, 3)
    table = Table("model", title=Text(f"{found.texts:,} labeled texts"), box=None)
    for heading in (task.headline.replace("_", " "), "minus the best", "95 % interval", "seconds", "parameters"):
        table.add_column(heading, justify="right")
    for row in found.rows:
        value, low, high = (factor * float(each) for each in row.difference)
        best = row is found.rows[0]
        table.add_row(
            Text(row.model),
            f"{factor * row.score:.{digits}f}",
            "" if best else f"{value:+.{digits}f}",
            "" if best else f"{low:+.{digits}f} to {high:+.{digits}f}",
            f"{row.seconds:.1f}",
            f"{row.parameters / 1e6:.1f}M",
        )
    return table
