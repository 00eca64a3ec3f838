"""`deni forecast`: what more labels would give."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from deni.cli import example
from deni.cli.options import training
from deni.cli.options.data import LABEL, data_options, task_options
from deni.cli.options.device import DEVICE
from deni.cli.options.numbers import COUNT, MOST
from deni.data import check_data
from deni.errors import SettingError
from deni.inputs import check_pretrained
from deni.outputs import check_file
from deni.terminal import console, say

if TYPE_CHECKING:
    from rich.table import Table

    from deni.commands.forecast import LearningCurve

TRAINED = ("strategy", "tuning", "epochs", "learning_rate", "batch_size")  # what only --fine-tune has


@click.command("forecast", epilog=example("deni forecast tickets.csv --more 100 --more 300 --output curve.html"))
@click.argument("file")
@click.option(
    "--more",
    type=COUNT,
    multiple=True,
    help="Further labels to forecast for; may be repeated.  [default: half as many, and as many, as FILE has]",
)
@click.option("--model", default="minilm", show_default=True, help="Pre-trained model: minilm, a folder, or a hub id.")
@click.option("--fine-tune", is_flag=True, help="Train each subset, in place of a regression on the frozen encoder.")
@click.option(
    "--seeds",
    type=click.IntRange(1, MOST),
    help="Repeats of the cross-validation, with other folds and subsets.  [default: 2, or 1 with --fine-tune]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of folds, subsets and training.")
@data_options
@LABEL
@task_options
@training.MAX_LENGTH
@click.option("--strategy", help="Strategy that --fine-tune trains with.  [default: auto]")
@training.OPEN_TUNING
@training.EPOCHS
@training.LEARNING_RATE
@training.BATCH_SIZE
@DEVICE
@click.option("--output", help="Page to write (HTML), with the curve; it needs no network and no other file.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def command(
    file: str,
    model: str,
    fine_tune: bool,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Forecast the score with more labels than FILE has.

    Models are cross-validated on growing subsets, and a power law goes through their scores. FILE may be - for standard
    input, or a dataset as in `deni train`. Nothing is kept but the page.
    """
    check_data(file)
    check_pretrained(model)
    trained = {name: given.pop(name) for name in TRAINED}
    if loose := next((name for name, value in trained.items() if value is not None and not fine_tune), None):
        raise SettingError(f"--{loose.replace('_', '-')} is of a training: add --fine-tune, or omit it")
    if output is not None:
        check_file(output, overwrite, [file, model])

    from deni.commands.forecast import forecast_file, state_forecast
    from deni.recipe import Recipe
    from deni.report.forecast import check_page, write_page

    if output is not None:
        check_page()
    how = {name: given.pop(name) for name in ("task", "max_length", "seed")}
    strategy = (trained.pop("strategy") or "auto") if fine_tune else "default"
    recipe = Recipe.of(strategy=strategy, model=model, data=file, **how, **(trained if fine_tune else {}))
    found = forecast_file(file, recipe=recipe, fine_tune=fine_tune, **given)
    if as_json:
        say(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        console().print(_table(found))
        for sentence in state_forecast(found):
            say(sentence)
    if output is not None:
        write_page(found, output, overwrite)
        say(f"wrote {output}", err=as_json)


def _table(found: LearningCurve) -> Table:
    """The curve, and what it goes on to."""
    from rich.table import Table
    from rich.text import Text

    from deni.tasks import TASKS
    from deni.tasks.metrics import called

    factor, digits = (100, 1) if TASKS[found.task].in_points else (1, 3)
    table = Table("texts", box=None, title=Text(f"{found.texts:,} labeled texts, {found.how}, {found.model}"))
    for heading in (called(found.metric), "90 % interval", "gain"):
        table.add_column(heading, justify="right")
    table.columns[0].justify = "right"

    def number(value: Any) -> str:
        return f"{factor * float(value):.{digits}f}"

    for size, *each in zip(found.sizes, *found.scores, strict=True):
        score, low, high = map(number, each)
        table.add_row(f"{size:,}", score, f"{low} to {high}", "")
    table.add_row(f"{found.texts:,}", number(found.now), "", "0", style="bold")
    for one in found.forecasts:
        score, low, high = map(number, one.score)
        table.add_row(f"{one.total:,}", score, f"{low} to {high}", f"{factor * float(one.gain.value):+.{digits}f}")
    return table
