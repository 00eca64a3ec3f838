"""`deni augment`: new texts from labeled ones, for training on both."""

from __future__ import annotations

from typing import Any

import click

from deni.augmentation import AUGMENTERS
from deni.cli import example
from deni.cli.options.choice import Choice
from deni.cli.options.data import LABEL, single_text_options, task_options
from deni.cli.options.fields import SettingsCommand, field_options, taken
from deni.cli.options.numbers import COUNT, Whole
from deni.data import DATASETS, check_data
from deni.outputs import check_output
from deni.tasks import DEFAULT
from deni.terminal import say


@click.command(
    "augment",
    cls=SettingsCommand,
    owners={"method": AUGMENTERS},
    more=f"Each METHOD has settings: deni augment --method NAME --help shows those of {', '.join(AUGMENTERS)}.",
    epilog=example("deni augment tickets.csv --method easy --n 2 --output new.csv"),
)
@click.argument("file")
@click.option("--output", required=True, help="File to write: CSV, TSV, JSONL or Parquet, by its suffix.")
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@click.option(
    "--method", type=Choice(list(AUGMENTERS)), default="easy", show_default=True, help="How new texts are made."
)
@click.option("--n", type=COUNT, default=1, show_default=True, help="New texts for each labeled one.")
@single_text_options
@LABEL
@task_options
@click.option("--seed", type=Whole(), default=0, show_default=True, help="Seed of what the method draws.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@click.option("--yes", is_flag=True, default=None, help="Send paid requests of the method llm without a question.")
@field_options(AUGMENTERS, skip={"yes"})
def command(
    file: str,
    output: str,
    overwrite: bool,
    method: str,
    n: int,
    text_column: str | None,
    label_column: str | None,
    split: str | None,
    config_name: str | None,
    task: str | None,
    label_order: tuple[str, ...],
    seed: int,
    progress: bool,
    **settings: Any,
) -> None:
    """Make new texts from the labeled ones of FILE.

    FILE is CSV, TSV, JSONL or Parquet, also gzipped; - is standard input.

    The output has the columns seed (the labeled text), text and label; `deni train --augmented` reads it. After an
    interrupt or a kill the same command goes on where it was.

    FILE may be a dataset as in `deni train`, too; one of pairs as the one text that --preset paper reads.
    """
    if output != "-":
        check_output(output, overwrite)
    check_data(file)
    from deni.augmentation import make_augmenter
    from deni.commands.augment import augment_file

    augmenter = make_augmenter(method, **taken(settings, AUGMENTERS.values()))
    done = augment_file(
        file,
        augmenter=augmenter,
        output=output,
        n=n,
        text_column=text_column,
        label_column=label_column,
        split=split,
        config_name=config_name,
        task=task or DEFAULT,
        label_order=label_order,
        seed=seed,
        overwrite=overwrite,
        progress=progress,
    )
    if done.output is None:
        say(f"Interrupted. {done.finished} of {done.texts} texts are finished. Give the same command to go on.")
        raise SystemExit(130)
    say(f"{done.made} new texts of {done.texts} labeled ones: {done.output}")
    more = f" --augmentations {n}" if n > 1 else ""
    more += " --preset paper" if file in DATASETS and DATASETS[file].pair else ""
    name = file if file != "-" else "FILE"
    say(f"Next: deni train {name} --strategy denials --augmented {done.output}{more} --output model/")
