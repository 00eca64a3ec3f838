"""`deni diagnose`: how unstable a fine-tuning is, why, and what would help."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING, Any

import click

from deni.baselines import BASELINES
from deni.cli import example
from deni.cli.options import training
from deni.cli.options.baselines import baseline_options, take_baselines
from deni.cli.options.choice import Choice
from deni.cli.options.data import LABEL, data_options
from deni.cli.options.fields import SettingsCommand, field_options, taken
from deni.cli.options.numbers import MOST
from deni.cli.options.running import running_options
from deni.data import check_data
from deni.inputs import check_file, check_pretrained
from deni.outputs import check_store
from deni.randomness import SOURCES
from deni.terminal import console, say
from deni.tuning import TUNINGS

if TYPE_CHECKING:
    from deni.study.cell import NamedSettings

BUDGETS = ("small", "normal", "large")
DATASET = ("text_column", "text_pair_column", "split", "config_name", "label_column", "augmented")
RECIPE = (
    "epochs",
    "learning_rate",
    "batch_size",
    "max_length",
    "dropout",
    "pooling",
    "normalize_features",
    "pairs",
    "bf16",
)
AS_IN_TRAIN = ("model", "tuning", "preset", "protocol", "labelled", "test_size", "block")
GROUPS = {
    "What everyone needs": "model tuning strategy text_column label_column labelled seeds budget cv store dry_run "
    "as_json",
    "Data": "text_pair_column test_size split config_name augmented block preset protocol",
    "Training": "epochs learning_rate batch_size max_length dropout pooling normalize_features pairs bf16",
    "What is investigated and tried": "investigate sources configurations values trial candidates trial_seeds",
    "Baselines": "baselines no_baselines",
    "Compute": "device runner workers pack threads address gpus_per_worker progress",
}
TUNING_FIELDS = {field.name for cls in TUNINGS.values() for field in dataclasses.fields(cls)}


@click.command(
    "diagnose",
    cls=SettingsCommand,
    owners={"tuning": TUNINGS, "baselines": BASELINES},
    groups=GROUPS,
    more="A tuning has settings, which are flags, too: deni tunings show NAME, or deni diagnose --tuning NAME --help.",
    epilog=example("deni diagnose tickets.csv --tuning lora --labeled 100 --epochs 3 --dry-run"),
)
@click.argument("file")
@click.option("--model", default="minilm", show_default=True, help="Pre-trained model: minilm, a folder, or a hub id.")
@training.TUNING
@click.option(
    "--strategy",
    default="default",
    show_default=True,
    help="Strategy that is diagnosed: default (plain fine-tuning), or deni.",
)
@training.PRESET
@training.PROTOCOL
@training.LABELLED
@training.TEST_SIZE
@data_options
@LABEL
@click.option("--augmented", help="File of augmented texts, for strategies that use them.")
@training.EPOCHS
@training.LEARNING_RATE
@training.BATCH_SIZE
@training.MAX_LENGTH
@training.DROPOUT
@training.POOLING
@training.NORMALIZE_FEATURES
@training.PAIRS
@training.BF16
@training.BLOCK
@click.option(
    "--seeds",
    type=click.IntRange(max=MOST),
    default=10,
    show_default=True,
    help="Runs that show how much results vary.",
)
@click.option(
    "--budget",
    type=Choice(BUDGETS),
    default="small",
    show_default=True,
    help="Configurations and values of each source: 3 x 3, 5 x 5 or 10 x 10.",
)
@click.option(
    "--configurations",
    type=click.IntRange(max=MOST),
    help="Configurations of the other sources, for each source.  [default: the budget's]",
)
@click.option(
    "--values",
    type=click.IntRange(max=MOST),
    help="Values of a source in each configuration.  [default: the budget's]",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=Choice(SOURCES),
    help="Source of randomness to investigate.  [default: all in play]",
)
@click.option("--investigate/--no-investigate", default=True, help="Whether to find out which randomness matters.")
@click.option(
    "--candidate",
    "candidates",
    multiple=True,
    help="Strategy to try; may be repeated.  [default: deni, linear_probe, swa, best_practices, ensemble (members=3)]",
)
@click.option("--trial/--no-trial", default=True, help="Whether to train other strategies for comparison.")
@click.option(
    "--trial-seeds", type=click.IntRange(max=MOST), default=5, show_default=True, help="Runs of each candidate."
)
@click.option(
    "--cv",
    type=click.IntRange(min=2, max=MOST),
    metavar="FOLDS",
    help="Also estimate the score of one model by cross-validation in so many folds, such as 5.",
)
@click.option("--store", help="File that keeps the results.  [default: FILE.diagnose.db]")
@click.option("--dry-run", is_flag=True, help="Check everything and print the cost, without training.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@running_options
@field_options(TUNINGS)
@baseline_options("tfidf, frozen")
def command(file: str, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Measure how much results on FILE vary, why, and what helps.

    FILE has labeled texts, or is the name of a dataset, as in `deni train`. After Ctrl-C the same command goes on.
    """
    check_data(file)
    if given["store"] is not None:
        check_store(given["store"], [file])
    check_pretrained(given["model"])
    check_file(given["augmented"])
    import json

    from deni.commands.diagnose import diagnose_file
    from deni.diagnose.report import print_costs, print_findings

    baselines = take_baselines(given)
    settings = taken(given, TUNINGS.values())
    arguments = {name: value for name, value in given.items() if name not in TUNING_FIELDS}
    planned = diagnose_file(file, tuning_settings=settings, baselines=baselines, **arguments)
    if dry_run:
        print_costs(planned.diagnosis, planned.left, console())
        say(planned.run.estimate())
        if planned.cv is not None:
            say(
                f"Cross-validation comes on top: one model on all of these texts, and {planned.cv} without a fold each."
            )
        return
    found = planned.findings()
    if as_json:
        say(json.dumps(found.to_json(), indent=2))
        return
    print_findings(found, console())
    say(f"\nThe runs are in {planned.store}.")
    if found.recommended is not None:
        say(f"Next: {_train(file, found.recommended, given)}")


def _train(file: str, strategy: NamedSettings, given: dict[str, Any]) -> str:
    """The command that trains with a strategy what was diagnosed."""
    own = {name: given[name] for name in (*AS_IN_TRAIN, *DATASET, *RECIPE) if given[name] is not None}
    flags = {**own, **taken(given, TUNINGS.values()), "strategy": strategy.name, **strategy.settings}
    said = ["deni", "train", file]
    for name, value in flags.items():
        flag = "--labeled" if name == "labelled" else "--" + name.replace("_", "-")
        said += [flag] if value is True else [flag, str(value)]
    return shlex.join([*said, "--output", "model/"])
