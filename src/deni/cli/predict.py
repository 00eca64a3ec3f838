"""`deni predict`: labels for texts."""

from __future__ import annotations

from typing import Any

import click

from deni.cli import example
from deni.cli.options.calibration import CALIBRATED, CALIBRATION, CALIBRATION_LABEL, say_selection
from deni.cli.options.choice import Choice
from deni.cli.options.data import data_options
from deni.cli.options.device import DEVICE
from deni.cli.options.hub import REVISION
from deni.cli.options.numbers import COUNT, Number
from deni.cli.quick_imports import quick_imports
from deni.data import check_data
from deni.errors import InputError
from deni.inputs import check_file, check_named_model
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
@click.option(
    "--accuracy",
    type=Number(),
    help="Answer only where this accuracy is supported by labels, such as 0.95; abstain from the other texts.",
)
@click.option(
    "--sets",
    type=Number(),
    help="Add the set of labels, or the interval of numbers, that holds the right one this often, such as 0.9.",
)
@CALIBRATION
@CALIBRATION_LABEL
@CALIBRATED
@click.option("--scope", is_flag=True, help="Add out_of_scope: how unlike the labeled texts a text is, from 0 to 100.")
@click.option(
    "--vote",
    type=Choice(["tokens", "answers"]),
    help="How members that generate agree: on each token together, or by the majority of their whole answers."
    "  [default: tokens]",
)
@click.option(
    "--max-new-tokens",
    type=COUNT,
    help="Tokens of an answer that is generated, at most.  [default: those of the longest answer in training]",
)
@REVISION
@DEVICE
def command(model: str, file: str, output: str, overwrite: bool, **given: Any) -> None:
    """Label the texts of FILE with MODEL.

    The output has label, confidence, agreement of the members and entropy. MODEL is a folder, or user/name of the hub.
    FILE may be - for standard input, or a dataset as in `deni train`.

    A model of several labels gives them and their probabilities; one of numbers the value and its standard deviation;
    one of words their labels, with confidence and agreement of each.

    A model of the task generation answers the column prompt, or messages, as JSON lines: the answer, its log
    probability, how far members disagree on its tokens; with --vote answers the answer of each, and their agreement.

    With --accuracy, texts without an answer have no label and True in the column abstained. A model trained with --cv
    knows where to answer, others need --calibration FILE.

    With --sets the column set has the labels of which one is right so often, the likeliest first; numbers have low and
    high. What is promised is printed. A model trained with --cv and --keep-folds knows sets, others need --calibration
    FILE.
    """
    read = [file, model, given["calibration"]]
    check_output(output, overwrite, words=True, inputs=read)  # before seconds of imports, as the rest
    check_named_model(model, given["revision"])
    check_data(file)
    check_file(given["calibration"])
    for name, usual in (("accuracy", 0.95), ("sets", 0.9)):
        if given[name] is not None and not 0 < given[name] < 1:
            raise InputError(f"--{name} must be between 0 and 1, such as {usual}, not {given[name]:g}")
    with quick_imports():
        from deni.commands.predict import predict_file

    count = predict_file(
        model,
        file,
        output,
        **given,
        overwrite=overwrite,
        progress=True,
        on_selection=say_selection,
        on_sets=lambda sets: say(sets.sentence(), err=True),
    )
    if output != "-":
        say(f"{count} texts labeled: {output}")
