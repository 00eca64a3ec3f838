"""`deni show auto`: what `deni train` would do, and why, without training."""

from __future__ import annotations

import copy
import json
from typing import Any

import click

from deni.cli import example
from deni.cli.options import training
from deni.cli.options.data import LABEL, TEST, data_options, task_options
from deni.cli.options.groups import GroupedCommand
from deni.data import check_data, check_split
from deni.inputs import check_pretrained
from deni.terminal import say


class _Shows(click.Group):
    """Takes `deni show NAME` of a strategy, too: `deni strategies show` under its old name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command below, or that of strategies with all arguments."""
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        from deni.cli.strategies import show

        older = copy.copy(show)
        older.deprecated = "Use deni strategies show."
        return "", older, args


@click.group(
    "show",
    cls=_Shows,
    epilog=example("deni show auto tickets.csv"),
    context_settings={"ignore_unknown_options": True},
)
def command() -> None:
    """Show what would be done, and why, without training."""


@command.command("auto", cls=GroupedCommand, epilog=example("deni show auto tickets.csv --model minilm --labeled 200"))
@click.argument("file")
@training.MODEL
@training.OPEN_TUNING
@training.LABELLED
@TEST
@click.option("--dev", help="Dev split, as in deni train: a file, or a fraction of the texts.")
@data_options
@LABEL
@task_options
@training.EPOCHS
@training.LEARNING_RATE
@training.HEAD_LR_SCALE
@training.BATCH_SIZE
@training.POOLING
@training.NORMALIZE_FEATURES
@training.PAIRS
@training.BLOCK
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def auto(file: str, as_json: bool, **given: Any) -> None:
    """Show what the strategy auto becomes for FILE, and why.

    FILE is what deni train would take: facts of its texts choose a row of a table. Flags that you give to deni train
    win over the row; give them here, too.
    """
    check_data(file)
    check_split(given["test"])
    check_split(given["dev"])
    check_pretrained(given["model"])

    from deni.auto import as_lines
    from deni.commands.show import show_auto
    from deni.recipe import Recipe

    names = ("test", "dev", "labelled", "text_column", "text_pair_column", "label_column", "label_order", "split")
    parts = {name: given.pop(name) for name in (*names, "config_name", "block")}
    plan = show_auto(file, recipe=Recipe.of(data=file, **given), **parts)
    if as_json:
        say(json.dumps(plan.to_json(), indent=2, ensure_ascii=False))
        return
    for line in as_lines(plan.chosen):
        say(line)
    say(f"cost: {plan.member_steps:,} member-steps")
