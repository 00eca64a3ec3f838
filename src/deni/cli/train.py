"""`deni train`: from a file of labelled texts to a model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from deni.cli import example
from deni.cli.options import training
from deni.cli.options.choice import Choice
from deni.cli.options.data import LABEL, data_options, task_options
from deni.cli.options.fields import PluginCommand, field_options, taken
from deni.outputs import check_free, check_outside, check_writable
from deni.randomness import SOURCES
from deni.strategies import ARGUMENTS, STRATEGIES
from deni.tasks import TASKS
from deni.training.curves import TOOLS, curves_folder
from deni.tuning import TUNINGS


def _seed_name(source: str) -> str:
    return f"seed_{source}"


def _seed_options(function: Any) -> Any:
    """A seed for each source of randomness."""
    for source in reversed(SOURCES):
        default = "--block" if source in ("data_split", "label_choice") else "--seed"
        text = f"Of the {source.replace('_', ' ')} alone.  [default: {default}]"
        flag = f"--seed-{source.replace('_', '-')}"
        function = click.option(flag, _seed_name(source), type=int, metavar="SEED", help=text)(function)
    return function


class _Remembers(PluginCommand):
    """Keeps what was typed, so that the report can say how to repeat it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["deni.typed"] = shlex.join(["deni", "train", *(each for each in args if each != "--resume")])
        return super().parse_args(ctx, args)


@click.command(
    "train", cls=_Remembers, epilog=example("deni train tickets.csv --tuning lora --labelled 500 --output model/")
)
@click.argument("file", required=False)
@click.option("--data", help="The same as FILE.")
@click.option("--output", required=True, help="Folder of the model; must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace the output folder.")
@click.option("--model", help="minilm, a folder, or a hub id.  [default: minilm]")
@training.TUNING
@click.option(
    "--strategy",
    default="deni",
    show_default=True,
    help=f"One of {', '.join(STRATEGIES)}, or several: prior_noise+deni.",
)
@training.PRESET
@training.PROTOCOL
@training.LABELLED
@click.option("--test", default="0.2", show_default=True, help="FILE or FRACTION to measure on; 0 for none.")
@training.TEST_SIZE
@click.option("--dev", help="FILE or FRACTION to choose the best epoch on.")
@data_options
@LABEL
@task_options
@training.EPOCHS
@training.LEARNING_RATE
@training.BATCH_SIZE
@click.option("--eval-batch-size", type=int, help="Texts of one forward pass in evaluation.  [default: 64]")
@click.option("--gradient-accumulation-steps", type=int, help="Parts of a batch computed one by one.  [default: 1]")
@training.MAX_LENGTH
@training.DROPOUT
@click.option("--seed", type=int, help="Of order, initialisation, dropout, noise and augmentation.  [default: 0]")
@training.BLOCK
@_seed_options
@click.option("--engine", type=Choice(["auto", "stacked", "loop"]), help="How members are computed.")
@click.option("--members-at-a-time", type=int, help="Members in one forward pass.  [default: as many as fit]")
@click.option("--optim", help="Optimiser, by its name in transformers.  [default: adamw_torch_fused]")
@click.option("--weight-decay", type=float, help="Decay of AdamW.  [default: 0]")
@click.option("--warmup-ratio", type=float, help="Part of the steps with a rising rate.  [default: 0]")
@click.option("--max-grad-norm", type=float, help="Clip each member's gradient; 0: no.  [default: 0]")
@training.BF16
@click.option("--gradient-checkpointing", is_flag=True, default=None, help="Less memory, more time.")
@click.option("--class-weights", is_flag=True, default=None, help="Make all classes count alike.")
@click.option("--early-stopping-patience", type=int, help="Epochs without a better --dev score.")
@click.option("--save-steps", type=click.IntRange(min=1), help="Steps between checkpoints.  [default: on Ctrl-C]")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
@click.option(
    "--report-to",
    type=Choice(TOOLS),
    default="none",
    show_default=True,
    help="Where the curves go while it trains; tensorboard: into OUTPUT.runs.",
)
@click.option("--explain", is_flag=True, help="Tell afterwards what the members did.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@field_options(STRATEGIES, skip=ARGUMENTS)
@field_options(TUNINGS)
def command(
    file: str | None, data: str | None, tuning: str, strategy: str, preset: str | None, explain: bool, **given: Any
) -> None:
    """Train on FILE (CSV, TSV, JSONL, Parquet, CoNLL, also gzipped; - for standard input) and write a model.

    FILE may be the name of a dataset, too (ag_news, trec, snips, db_pedia, sst2, mrpc, cola, boolq, rte), or
    user/dataset of the hub.
    """
    if (file is None) == (data is None):
        raise click.UsageError("give one FILE, or --data")
    file = str(file or data)
    check_outside(given["output"], *filter(None, (file, given["test"], given["dev"], given["model"])))
    check_free(given["output"], given["overwrite"])
    check_writable(given["output"])

    from deni.recipe import Recipe

    preset = preset or given["protocol"]
    seeds = {name: given.pop(_seed_name(name)) for name in SOURCES}
    own = {key: value for key, value in given.items() if key not in ARGUMENTS}
    fields = taken(own, STRATEGIES.values()), taken(given, TUNINGS.values())
    rest = {key: value for key, value in given.items() if key not in {**fields[0], **fields[1]}}
    names = (
        *("output", "test", "test_size", "dev", "labelled", "block", "protocol"),
        *("text_column", "text_pair_column", "label_column", "label_order", "split", "config_name"),
        *("overwrite", "resume", "save_steps", "report_to", "progress"),
    )
    files = {name: rest.pop(name) for name in names}
    rest["source_seeds"] = {name: seed for name, seed in seeds.items() if seed is not None}
    plan = Recipe.of(preset, strategy, tuning, fields[0], fields[1], data=file, **rest)

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from deni.commands.train import train_file  # seconds, for torch and transformers: what is wrong above is said first
    from deni.report.training import PAGE, TrainingReport

    report = TrainingReport(
        Path(files["output"]).name, click.get_current_context().meta["deni.typed"], str(files["output"])
    )
    done = train_file(file, recipe=plan, preset=preset, extra_files=report, **files)
    if done.output is None:
        click.echo(f"Interrupted. Checkpoint: {done.result.checkpoint}. Give the same command with --resume to go on.")
        raise SystemExit(130)
    page, measured = done.output / PAGE, TASKS[plan.task].metrics
    rows = {
        **{name.replace("_", " "): f"{done.metrics[name]:.4f}" for name in measured if name in done.metrics},
        "texts": f"{done.metrics['train_texts']} train, {done.metrics.get('test_texts', 0)} test",
        "schedule": done.result.schedule,
        "member-steps": done.result.member_steps,
        "seconds": f"{done.result.seconds:.0f}",
        "model": done.output,
        "report": page if page.exists() else report.left_out or "none",
    }
    if files["report_to"] == "tensorboard":
        runs = curves_folder(done.output, resume=True).parent
        rows["curves"] = shlex.join(["tensorboard", "--logdir", str(runs)])
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))  # a name in brackets is no markup
    for failure in done.result.trainer.failures:
        table.add_row("failed run", Text(str(failure)))
    report.print_on(table, Console())
    if explain:
        click.echo(f"\n{done.result.trainer.diagnostics.story()}\n")
    if one_model := report.next_step():
        click.echo(one_model)
    click.echo(f"Next: deni predict {done.output} FILE --output out.csv, where FILE has new texts")
