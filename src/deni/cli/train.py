"""`deni train`: from a file of labelled texts to a model."""

from __future__ import annotations

from typing import Any

import click

from deni.cli import example
from deni.cli.options import field_options, taken
from deni.data import TASKS
from deni.strategies import ARGUMENTS, PRESETS, STRATEGIES
from deni.tuning import TUNINGS

_STRATEGY = f"One of {', '.join(STRATEGIES)}; or several: prior_noise+deni."


@click.command("train", epilog=example("deni train tickets.csv --tuning lora --labelled 500 --output model/"))
@click.argument("file")
@click.option("--output", required=True, help="Folder of the model; must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace the output folder.")
@click.option("--model", help="minilm, a folder, or a hub id.  [default: minilm]")
@click.option("--tuning", type=click.Choice(list(TUNINGS)), default="full", show_default=True)
@click.option(
    "--strategy",
    default="deni",
    show_default=True,
    help=f"One of {', '.join(STRATEGIES)}, or several: prior_noise+deni.",
)
@click.option("--preset", type=click.Choice(PRESETS), help="Settings that are not given.")
@click.option("--labelled", type=click.IntRange(min=1), help="Texts to train on, class-balanced.  [default: all]")
@click.option("--test", default="0.2", show_default=True, help="FILE or FRACTION to measure on; 0 for none.")
@click.option("--dev", help="FILE or FRACTION to choose the best epoch on.")
@click.option("--text-column", default="text", show_default=True)
@click.option("--text-pair-column", help="Column of a second text, to train on pairs.")
@click.option("--label-column", default="label", show_default=True)
@click.option(
    "--task", type=click.Choice(list(TASKS)), help="One label a text, several (a;b), a number, or a tag for each word."
)
@click.option("--epochs", type=float, help="Passes over the texts.  [default: 10]")
@click.option("--learning-rate", type=float, help="Peak rate.  [default: the tuning's own]")
@click.option("--batch-size", type=int, help="Texts of one optimiser step.  [default: 8]")
@click.option("--eval-batch-size", type=int, help="Texts of one forward pass in evaluation.  [default: 64]")
@click.option("--gradient-accumulation-steps", type=int, help="Parts of a batch computed one by one.  [default: 1]")
@click.option("--max-length", type=int, help="Tokens of a text.  [default: the 99th percentile]")
@click.option("--dropout", type=float, help="In front of the output layer.  [default: 0.3]")
@click.option("--seed", type=int, help="Of order, initialisation, dropout and noise.  [default: 0]")
@click.option("--block", type=int, default=0, show_default=True, help="Seed of the test part and the labelled texts.")
@click.option("--engine", type=click.Choice(["auto", "stacked", "loop"]), help="How members are computed.")
@click.option("--members-at-a-time", type=int, help="Members in one forward pass.  [default: as many as fit]")
@click.option("--optim", help="Optimiser, by its name in transformers.  [default: adamw_torch_fused]")
@click.option("--weight-decay", type=float, help="Decay of AdamW.  [default: 0]")
@click.option("--warmup-ratio", type=float, help="Part of the steps with a rising rate.  [default: 0]")
@click.option("--max-grad-norm", type=float, help="Clip each member's gradient; 0: no.  [default: 0]")
@click.option("--bf16", is_flag=True, default=None, help="Compute in bfloat16.")
@click.option("--gradient-checkpointing", is_flag=True, default=None, help="Less memory, more time.")
@click.option("--class-weights", is_flag=True, default=None, help="Make all classes count alike.")
@click.option("--early-stopping-patience", type=int, help="Epochs without a better --dev score.")
@click.option("--save-steps", type=click.IntRange(min=1), help="Steps between checkpoints.  [default: on Ctrl-C]")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint.")
@click.option("--explain", is_flag=True, help="Tell afterwards what the members did.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@field_options(STRATEGIES, skip=ARGUMENTS)
@field_options(TUNINGS)
def command(file: str, tuning: str, strategy: str, preset: str | None, explain: bool, **given: Any) -> None:
    """Train on FILE (CSV, TSV, JSONL, Parquet, CoNLL, also gzipped; - for standard input) and write a model."""
    from rich.console import Console
    from rich.table import Table

    from deni.finetune import METRICS
    from deni.recipe import recipe
    from deni.train import train_file

    own = {key: value for key, value in given.items() if key not in ARGUMENTS}
    fields = taken(own, STRATEGIES.values()), taken(given, TUNINGS.values())
    rest = {key: value for key, value in given.items() if key not in {**fields[0], **fields[1]}}
    names = (
        *("output", "test", "dev", "labelled", "text_column", "text_pair_column", "label_column", "block"),
        *("overwrite", "resume", "save_steps", "progress"),
    )
    files = {name: rest.pop(name) for name in names}
    plan = recipe(preset, strategy, tuning, fields[0], fields[1], **rest)
    done = train_file(file, recipe=plan, preset=preset, **files)
    if done.output is None:
        click.echo(f"Interrupted. Checkpoint: {done.fitted.checkpoint}. Give the same command with --resume to go on.")
        raise SystemExit(130)
    table = Table(show_header=False, box=None)
    for name in METRICS[plan.task]:
        if name in done.metrics:
            table.add_row(name.replace("_", " "), f"{done.metrics[name]:.4f}")
    table.add_row("texts", f"{done.metrics['train_texts']} train, {done.metrics.get('test_texts', 0)} test")
    table.add_row("schedule", str(done.fitted.schedule))
    table.add_row("member-steps", str(done.fitted.member_steps))
    table.add_row("seconds", f"{done.fitted.seconds:.0f}")
    table.add_row("model", str(done.output))
    for failure in done.fitted.trainer.failures:
        table.add_row("failed run", str(failure))
    Console().print(table)
    if explain:
        click.echo(f"\n{done.fitted.trainer.diagnostics.story()}\n")
    click.echo(f"Next: deni predict {done.output} {file if file != '-' else 'FILE'} --output out.csv")
