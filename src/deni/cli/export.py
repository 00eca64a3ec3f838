"""`deni export`: a model as ordinary transformers folders, as one of sentence-transformers, or as an ONNX graph."""

from __future__ import annotations

import click

from deni.cli import example
from deni.cli.options.calibration import CALIBRATED
from deni.cli.options.choice import Choice
from deni.cli.options.hub import REVISION
from deni.inputs import check_named_model
from deni.outputs import check_folder
from deni.terminal import say


@click.command("export", epilog=example("deni export model/ out/ --as single"))
@click.argument("model")
@click.argument("out")
@click.option(
    "--as",
    "how",
    type=Choice(["single", "members", "sentence-transformers", "onnx"]),
    default="single",
    show_default=True,
    help="The mean of the members as one model, each member, the mean for sentence-transformers, or an ONNX graph.",
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
@click.option("--int8", is_flag=True, help="Weights that members share as int8, for --as onnx.")
@click.option("--mean", is_flag=True, help="Mean of the members in place of their vote, for --as onnx.")
@CALIBRATED
@REVISION
@click.option("--overwrite", is_flag=True, help="Replace the output folder, if all in it was written by deni.")
def command(
    model: str,
    out: str,
    how: str,
    adapter: bool,
    merge_lora: str,
    device: str,
    int8: bool,
    mean: bool,
    calibrated: bool,
    revision: str | None,
    overwrite: bool,
) -> None:
    """Write MODEL to OUT as folders that load without deni.

    That is the mean of its members as one model, or each member. With sentence-transformers it is the mean as a folder
    that this package loads: encoder, pooling and head; its encode gives the logits. With onnx it is one graph of the
    vote, with the tokenizer, which onnxruntime computes and deni predict reads. The temperature of a calibrated model
    is in its output, so that the softmax of the logits is calibrated.
    """
    check_folder(out, overwrite, [model])
    check_named_model(model, revision)
    from transformers.utils.logging import disable_progress_bar

    from deni.artifact import export

    disable_progress_bar()  # one for each member, for less than a second
    folders = export(
        model,
        out,
        how,  # type: ignore[arg-type]
        adapter,
        merge_lora,  # type: ignore[arg-type]
        overwrite,
        device,
        calibrated,
        int8,
        mean,
        revision,
    )
    for folder in folders:
        say(folder)
