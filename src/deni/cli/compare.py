"""`deni compare`: which answers change from one model to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from deni.cli import example
from deni.cli.options.data import LABEL, data_options
from deni.cli.options.device import DEVICE
from deni.data import check_data
from deni.inputs import check_named_model, check_store
from deni.outputs import check_output
from deni.terminal import console, say

if TYPE_CHECKING:
    from rich.table import Table

    from deni.commands.compare import Comparison

MOST_ROWS = 20  # changed texts on the terminal; --output has all


@click.command("compare", epilog=example("deni compare old_model/ model/ held_out.csv --output changed.csv"))
@click.argument("model_a")
@click.argument("model_b")
@click.argument("file")
@click.option("--study", help="Store of a study, whose seeds show how many answers another seed changes.")
@click.option("--output", help="File to write the changed texts to: CSV, TSV, JSONL or Parquet, by its suffix.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@data_options
@LABEL
@DEVICE
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap over the texts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def command(
    model_a: str,
    model_b: str,
    file: str,
    study: str | None,
    output: str | None,
    overwrite: bool,
    device: str | None,
    seed: int,
    as_json: bool,
    **columns: str | None,
) -> None:
    """Show which answers change from MODEL_A to MODEL_B.

    The models are folders, or user/name of the hub; user/name@v1 is its revision v1. FILE has labels or not; it may be
    - for standard input, or a dataset as in `deni train`. With labels it is tested whether MODEL_B is better. What
    another seed would change is measured by members or folds of the models, or by a study.
    """
    if output is not None:
        check_output(output, overwrite, inputs=[file, model_a, model_b, study])
    check_named_model(model_a)
    check_named_model(model_b)
    check_data(file)
    if study is not None:
        check_store(study)
    from deni.commands.compare import compare_files, state_verdict

    found = compare_files(
        model_a,
        model_b,
        file,
        study=study,
        output=output,
        overwrite=overwrite,
        **columns,
        device=device,
        seed=seed,
        progress=True,
    )
    if as_json:
        say(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return
    screen = console()
    if found.scores:
        screen.print(_scores(found))
    for sentence in state_verdict(found):
        say(sentence)
    if len(found.rows):
        say()
        screen.print(_changed(found))
        if len(found.rows) > MOST_ROWS:
            say(f"{len(found.rows) - MOST_ROWS:,} more; --output FILE writes all.")
    if output is not None:
        say(f"{len(found.rows):,} changed texts: {output}")


def _scores(found: Comparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    from deni.tasks import TASKS
    from deni.tasks.metrics import called

    table = Table("", box=None, title=Text(f"{found.texts:,} texts"))
    for heading in ("A", "B", "B - A", "95 % interval"):
        table.add_column(heading, justify="right")
    assert found.difference is not None
    for name, (one, other) in found.scores.items():
        ends = ""
        if name == TASKS[found.task].headline:
            ends = f"{float(found.difference.low):+.4f} to {float(found.difference.high):+.4f}"
        table.add_row(called(name), f"{one:.4f}", f"{other:.4f}", f"{other - one:+.4f}", ends)
    return table


def _changed(found: Comparison) -> Table:
    """The changed texts with both answers, the largest changes first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=True)  # the texts have what the answers leave
    for name in found.rows.columns:
        title, of_text = {"model_a": "A", "model_b": "B"}.get(name, name), name == "text"
        table.add_column(
            title, no_wrap=True, overflow="ellipsis", ratio=1 if of_text else None, max_width=None if of_text else 20
        )
    styles = {"better": "green", "worse": "red"}
    for row in found.rows.head(MOST_ROWS).itertuples(index=False):
        cells = [f"{each:.4g}" if isinstance(each, float) else str(each) for each in row]
        style = styles.get(str(getattr(row, "change", "")), "")
        table.add_row(*(Text(" ".join(cell.split()), style=style) for cell in cells))
    return table
