"""`deni export`: a model as ordinary transformers folders, or as one of sentence-transformers."""

from __future__ import annotations

import click

from deni.cli import example
from deni.cli.options.calibration import CALIBRATED
from deni.cli.options.choice import Choice
from deni.inputs import check_model
from deni.outputs import check_folder
from deni.terminal import say


@click.command("export", epilog=example("deni export model/ out/ --as single"))
@click.argument("model")
@click.argument("out")
@click.option(
    "--as",
    "how",
    type=Choice(["single", "members", "sentence-transformers"]),
    default="single",
    show_default=True,
    help="The mean of the members as one model, each member, or the mean as a model of sentence-transformers.",
)
@click.option("--adapter", is_flag=True, help="Write PEFT adapters instead of whole models.")
@click.option(
    "--merge-lora",
    type=Choice(["factors", "product"]),
    default="factors",
    show_default=True,
    help="What is averaged of LoRA: the factors, or their product.",
)
@click.option(
    "--device", metavar="NAME", default="cpu", show_default=True, help="Device to compute on: cpu, cuda, cuda:1 or mps."
)
@CALIBRATED
@click.option("--overwrite", is_flag=True, help="Replace the output folder, if all in it was written by deni.")
def command(
    model: str, out: str, how: str, adapter: bool, merge_lora: str, device: str, calibrated: bool, overwrite: bool
) -> None:
    """Write MODEL to OUT as folders that load without deni.

    That is the mean of its members as one model, or each member. With sentence-transformers it is the mean as a folder
    that this package loads: encoder, pooling and head; its encode gives the logits. The temperature of a calibrated
    model is in the output layer, so that the softmax of the logits is calibrated.
    """
    check_folder(out, overwrite, [model])
    check_model(model)
    from transformers.utils.logging import disable_progress_bar

    from deni.artifact import export

    disable_progress_bar()  # one for each member, for less than a second
    for folder in export(model, out, how, adapter, merge_lora, overwrite, device, calibrated):  # type: ignore[arg-type]
        say(folder)
