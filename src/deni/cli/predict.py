"""`deni predict`: labels for texts."""

from __future__ import annotations

import click

from deni.cli import example
from deni.cli.options.data import data_options
from deni.cli.options.device import DEVICE
from deni.data import check_data
from deni.inputs import check_model
from deni.outputs import check_output
from deni.terminal import say


@click.command("predict", epilog=example("deni predict model/ new.csv --output out.csv"))
@click.argument("model")
@click.argument("file")
@click.option(
    "--output",
    default="-",
    show_default=True,
    help="File to write: CSV, TSV, JSONL, Parquet or CoNLL, by its suffix; - for standard output.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@data_options
@DEVICE
def command(model: str, file: str, output: str, overwrite: bool, **columns: str | None) -> None:
    """Label the texts of FILE with MODEL.

    The output has label, confidence, agreement of the members and entropy. FILE may be - for standard input, or a
    dataset as in `deni train`.

    A model of several labels gives them and their probabilities; one of numbers the value and its standard deviation;
    one of words their labels, with confidence and agreement of each.
    """
    check_output(output, overwrite, words=True, inputs=[file, model])  # before seconds of imports, as the rest
    check_model(model)
    check_data(file)
    from deni.commands.predict import predict_file

    count = predict_file(model, file, output, **columns, overwrite=overwrite, progress=True)
    if output != "-":
        say(f"{count} texts labeled: {output}")
