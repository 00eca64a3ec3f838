"""`deni adapt`: an encoder learns from unlabeled texts, before any label is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deni.cli import example
from deni.cli.options import training
from deni.cli.options.choice import Choice
from deni.cli.options.data import data_options
from deni.cli.options.device import DEVICE
from deni.cli.options.numbers import COUNT, Number, Whole
from deni.data import check_data
from deni.inputs import check_pretrained
from deni.outputs import check_folder
from deni.terminal import say

if TYPE_CHECKING:
    from deni.adaptation.result import Cost


@click.command("adapt", epilog=example("deni adapt --texts new.csv --test test.csv --output encoder/"))
@click.option("--texts", required=True, metavar="FILE", help="Unlabeled texts to learn from: a file or a dataset.")
@click.option("--output", required=True, help="Folder to write the encoder to; must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace the output folder, if all in it was written by deni.")
@click.option("--model", default="minilm", show_default=True, help="Pre-trained model: minilm, a folder, or a hub id.")
@click.option(
    "--test",
    metavar="FILE",
    help="Texts that models of the encoder will be tested on: those among --texts are left out.",
)
@click.option(
    "--objective",
    type=Choice(["auto", "mlm", "simcse"]),
    default="auto",
    show_default=True,
    help="Loss: mlm, masked language modelling; simcse, contrastive; auto: mlm where the model has a head for it.",
)
@click.option("--epochs", type=Number(), help="Passes over the texts.  [default: 20 of mlm, 3 of simcse]")
@click.option("--steps", type=COUNT, default=2000, show_default=True, help="Most optimizer steps, whatever --epochs.")
@click.option("--learning-rate", type=Number(), help="Peak learning rate.  [default: 1e-4 of mlm, 3e-5 of simcse]")
@click.option("--batch-size", type=Whole(), help="Texts of one optimizer step.  [default: 32 of mlm, 64 of simcse]")
@training.MAX_LENGTH
@click.option(
    "--patience",
    type=COUNT,
    default=3,
    show_default=True,
    help="Stop after so many evaluations, of ten, without a lower loss on texts held out.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of order, hidden tokens and dropout.")
@data_options
@DEVICE
@training.BF16
@click.option("--resume", is_flag=True, help="Continue an interrupted training of the same output.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
def command(
    texts: str,
    output: str,
    overwrite: bool,
    model: str,
    test: str | None,
    bf16: bool | None,
    **given: Any,
) -> None:
    """Adapt an encoder to unlabeled texts, before it is trained.

    Task-adaptive pre-training: the model goes on learning from the texts themselves. A tenth of them is held out; the
    weights with the lowest loss on it are written, as a folder that all commands and transformers read.
    """
    check_data(texts, test)
    check_pretrained(model)
    check_folder(output, overwrite, [texts, test, model])

    from deni.adaptation.result import lines_of
    from deni.commands.adapt import adapt_file

    done = adapt_file(
        texts, output=output, overwrite=overwrite, model=model, test=test, bf16=bool(bf16), on_cost=_say_cost, **given
    )
    if done.output is None:
        goes_on = f"Checkpoint: {done.checkpoint}. Give the same command with --resume to go on."
        say(f"Interrupted. {goes_on if done.checkpoint else 'No checkpoint.'}")
        raise SystemExit(130)
    counts = done.texts
    left = {
        "empty": counts["left_out_empty"],
        "in the test file": counts["left_out_test"],
        "repeated": counts["left_out_repeated"],
    }
    told = ", ".join(f"{count:,} {why}" for why, count in left.items() if count)
    say(
        f"{counts['trained_on']:,} texts trained on, {counts['held_out']:,} held out, of {counts['read']:,}"
        f"{f' (left out: {told})' if told else ''}."
    )
    if test is None:
        say("No --test was given: a text of the pool that is tested on later makes that score too good.")
    for line in lines_of(done, model):
        say(line)
    say(f"Next: deni models FILE --models {model},{output}, where FILE has labeled texts, tells whether it helped.")


def _say_cost(cost: Cost) -> None:
    """Print what is estimated before the training."""
    from deni.progress import clock

    say(
        f"At most {cost.steps:,} steps on {cost.texts:,} texts: about {clock(cost.seconds)} (minutes:seconds) and "
        f"{cost.memory / 2**30:.1f} GiB of memory on {cost.device}."
    )
