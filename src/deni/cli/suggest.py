"""`deni suggest`: what to label next."""

from __future__ import annotations

import click

from deni.cli import example
from deni.cli.options.data import data_options
from deni.cli.options.device import DEVICE
from deni.cli.options.hub import REVISION
from deni.cli.options.numbers import COUNT
from deni.data import check_data
from deni.inputs import check_named_model
from deni.outputs import check_output
from deni.terminal import say


@click.command("suggest", epilog=example("deni suggest model/ unlabeled.csv --n 50 --output next.csv"))
@click.argument("model")
@click.argument("pool")
@click.option("--n", type=COUNT, default=50, show_default=True, help="Texts to suggest.")
@click.option(
    "--output",
    default="-",
    show_default=True,
    help="File to write: CSV, TSV, JSONL or Parquet, by its suffix; - for standard output.",
)
@click.option(
    "--labeled",
    metavar="FILE",
    help="Labeled examples that MODEL was trained on: what repeats them is left out.",
)
@click.option("--apart", metavar="FILE", help="File for the texts that are left out, each with why.")
@click.option("--overwrite", is_flag=True, help="Replace the output files.")
@data_options
@REVISION
@DEVICE
def command(
    model: str,
    pool: str,
    n: int,
    output: str,
    labeled: str | None,
    apart: str | None,
    overwrite: bool,
    **columns: str | None,
) -> None:
    """Choose the texts of POOL to label next for MODEL.

    They are texts about which MODEL is unsure, and which differ from each other. The output has the columns of POOL,
    and rank, score (1 for what MODEL cannot decide, 0 for what it is sure of) and why.

    MODEL is a folder or user/name of the hub. POOL may be - for standard input, or a dataset as in `deni train`.
    """
    for each in (output, apart):  # before seconds of imports, as the rest
        if each is not None:
            check_output(each, overwrite, inputs=[pool, model, labeled])
    check_named_model(model, columns["revision"])
    check_data(pool, labeled)
    from deni.commands.suggest import suggest_file
    from deni.tasks.remarks import many

    written = suggest_file(
        model, pool, output, n=n, labeled=labeled, apart=apart, overwrite=overwrite, **columns, progress=True
    )
    if output != "-":
        counts = {"repeated": written.repeated, "unlike the labeled ones": written.out_of_scope}
        left_out = " and ".join(f"{count:,} {why}" for why, count in counts.items() if count)
        said = f" (left out: {left_out})" if left_out else ""
        say(f"{written.suggested:,} of {many(written.pool)} to label next{said}: {output}")
