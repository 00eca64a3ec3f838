"""`deni diagnose`: how unstable a fine-tuning is, why, and what would help."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from deni.cli import example
from deni.cli.data import data_options
from deni.cli.options import field_options, taken
from deni.cli.running import running_options
from deni.randomness import SOURCES
from deni.strategies import PRESETS
from deni.tuning import TUNINGS

if TYPE_CHECKING:
    from deni.study.cell import Named

BUDGETS = ("small", "normal", "large")
DATASET = ("text_column", "text_pair_column", "split", "config_name", "label_column", "augmented")
RECIPE = ("epochs", "learning_rate", "batch_size", "max_length", "dropout", "bf16")
AS_IN_TRAIN = ("model", "tuning", "preset", "protocol", "labelled", "test_size", "block")
ASKED = (
    *("strategy", "model", "labelled", "test_size", "block", "preset", "protocol"),
    *("budget", "configurations", "values", "seeds", "trial_seeds"),
)
RUNNING = ("runner", "workers", "pack", "threads", "address", "gpus_per_worker", "progress")


@click.command(
    "diagnose", epilog=example("deni diagnose tickets.csv --tuning lora --labelled 100 --epochs 3 --dry-run")
)
@click.argument("file")
@click.option("--model", default="minilm", show_default=True, help="minilm, a folder, or a hub id.")
@click.option("--tuning", type=click.Choice(list(TUNINGS)), default="full", show_default=True)
@click.option("--strategy", default="default", show_default=True, help="What is diagnosed: plain fine-tuning, or deni.")
@click.option("--preset", type=click.Choice(PRESETS), help="Settings that are not given.")
@click.option("--protocol", type=click.Choice(["paper"]), help="The preset, and 1,000 labelled texts.")
@click.option("--labelled", type=click.IntRange(min=1), help="Texts to train on, class-balanced.  [default: all]")
@click.option("--test-size", type=click.IntRange(min=1), help="Texts of the test part to measure on.  [default: all]")
@data_options
@click.option("--label-column", help="Column of the labels.  [default: the dataset's own, or label]")
@click.option("--augmented", help="File of augmented texts, for strategies that use them.")
@click.option("--epochs", type=float, help="Passes over the texts.  [default: 10]")
@click.option("--learning-rate", type=float, help="Peak rate.  [default: the tuning's own]")
@click.option("--batch-size", type=int, help="Texts of one optimiser step.  [default: 8]")
@click.option("--max-length", type=int, help="Tokens of a text.  [default: the 99th percentile]")
@click.option("--dropout", type=float, help="In front of the output layer.  [default: 0.3]")
@click.option("--bf16", is_flag=True, default=None, help="Compute in bfloat16.")
@click.option("--block", type=int, default=0, show_default=True, help="Seed of the test part and the labelled texts.")
@click.option("--seeds", type=int, default=10, show_default=True, help="Runs that tell how much it varies.")
@click.option(
    "--budget",
    type=click.Choice(BUDGETS),
    default="small",
    show_default=True,
    help="Configurations and values of each source: 3 x 3, 5 x 5 or 10 x 10.",
)
@click.option("--configurations", type=int, help="Of the other sources, for each source.  [default: of the budget]")
@click.option("--values", type=int, help="Of a source in each configuration.  [default: of the budget]")
@click.option(
    "--source", "sources", multiple=True, type=click.Choice(SOURCES), help="To investigate.  [default: all in play]"
)
@click.option("--investigate/--no-investigate", default=True, help="Whether to investigate the sources.")
@click.option(
    "--candidate",
    "candidates",
    multiple=True,
    help="A strategy to try.  [default: deni, swa, best_practices, ensemble (3 members)]",
)
@click.option("--trial/--no-trial", default=True, help="Whether to try other strategies.")
@click.option("--trial-seeds", type=int, default=5, show_default=True, help="Runs of each candidate.")
@click.option("--store", help="File of the results.  [default: FILE.diagnose.db]")
@click.option("--dry-run", is_flag=True, help="Check everything and say what it costs, without training.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@running_options
@field_options(TUNINGS)
def command(file: str, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Tell how unstable the fine-tuning of FILE is, which randomness makes it so, and what might help.

    FILE is one of labelled texts, or the name of a dataset, as in `deni train`. After Ctrl-C the same command goes on.
    """
    import json

    from rich.console import Console

    from deni.study.cell import Named
    from deni.study.diagnose import findings
    from deni.study.diagnose_plan import ask, default_store, plan_diagnosis
    from deni.study.diagnose_report import print_costs, print_findings
    from deni.study.run import Run
    from deni.study.store import Store

    tuning = Named(given["tuning"], taken(given, TUNINGS.values()))
    question = ask(
        file,
        dataset={name: given[name] for name in DATASET},
        recipe={name: given[name] for name in RECIPE},
        tuning=tuning,
        sources=given["sources"] or None if given["investigate"] else (),
        candidates=given["candidates"] or None if given["trial"] else (),
        **{name: given[name] for name in ASKED},
    )
    diagnosis = plan_diagnosis(question)
    store = given["store"] or default_store(file)
    left = diagnosis.left(store)
    running = Run(diagnosis.study, left, **{name: given[name] for name in RUNNING})
    if dry_run:
        print_costs(diagnosis, {each.key for each in left}, Console())
        click.echo(running.estimate())
        return
    with Store(store, create=True) as opened:
        running.into(opened)
        found = findings(diagnosis, opened)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    print_findings(found, Console())
    click.echo(f"\nThe runs are in {store}.")
    if found.recommended is not None:
        click.echo(f"Next: {_train(file, found.recommended, given)}")


def _train(file: str, strategy: Named, given: dict[str, Any]) -> str:
    """The command that trains with a strategy what was diagnosed."""
    own = {name: given[name] for name in (*AS_IN_TRAIN, *DATASET, *RECIPE) if given[name] is not None}
    flags = {**own, **taken(given, TUNINGS.values()), "strategy": strategy.name, **strategy.settings}
    said = ["deni", "train", file]
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        said += [flag] if value is True else [flag, str(value)]
    return shlex.join([*said, "--output", "model/"])
