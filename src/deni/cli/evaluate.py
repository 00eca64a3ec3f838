"""`deni evaluate`: how good a model is on a file with labels."""

from __future__ import annotations

import json

import click

from deni.cli import example
from deni.cli.options.calibration import CALIBRATED
from deni.cli.options.data import LABEL, data_options
from deni.cli.options.device import DEVICE
from deni.cli.options.hub import REVISION
from deni.cli.quick_imports import quick_imports
from deni.data import check_data
from deni.inputs import check_named_model
from deni.terminal import console, say


@click.command("evaluate", epilog=example("deni evaluate model/ held_out.csv"))
@click.argument("model")
@click.argument("file")
@data_options
@REVISION
@DEVICE
@CALIBRATED
@LABEL
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    model: str, file: str, calibrated: bool, revision: str | None, as_json: bool, **columns: str | None
) -> None:
    """Measure MODEL on the labeled texts of FILE.

    A model that generates is measured on prompts with answers.

    MODEL is a folder or user/name of the hub. FILE may be - for standard input, the name of a dataset, or user/dataset
    of the hub.
    """
    check_named_model(model, revision)
    check_data(file)
    from rich.table import Table

    with quick_imports():
        from deni.commands.evaluate import evaluate_file

    result = evaluate_file(model, file, **columns, calibrated=calibrated, revision=revision, progress=True)
    if as_json:
        say(json.dumps(result, indent=1, ensure_ascii=False))
        return
    table = Table(show_header=False, box=None)
    table.add_row("texts", str(result["texts"]))
    for name, value in result.items():
        if name not in ("texts", "f1", "calibration"):
            table.add_row(name.replace("_", " "), f"{value:.4f}")
    for name, value in result.get("calibration", {}).items():
        table.add_row({"ece": "calibration error", "brier": "Brier score", "nll": "log loss"}[name], f"{value:.4f}")
    for label, f1 in result.get("f1", {}).items():
        table.add_row(f"  F1 {label}", f"{f1:.4f}")
    console().print(table)
