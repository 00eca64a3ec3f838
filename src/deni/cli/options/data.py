"""Options that say which texts are meant."""

from __future__ import annotations

from typing import Any

import click

from deni.cli.options.choice import Choice
from deni.tasks import DEFAULT, TASKS


def _names(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",")) if value else ()


_LABELING = [name for name, task in TASKS.items() if not task.generates]
TEXT = click.option("--text-column", help="Column of the texts.  [default: the dataset's own, or text]")
PAIR = click.option(
    "--text-pair-column", help="Column of the second texts of pairs.  [default: the dataset's own, or none]"
)
LABEL = click.option("--label-column", help="Column of the labels.  [default: the dataset's own, or label]")
TEST = click.option(
    "--test", default="0.2", show_default=True, help="Test split: a file, or a fraction of the texts; 0 for none."
)
ORDER = click.option(
    "--label-order",
    metavar="A,B,C",
    callback=_names,
    help="Classes from the lowest to the highest, for --task "
    f"{' or '.join(name for name, task in TASKS.items() if task.ordered)}.  [default: that of the numbers]",
)


def _task(names: list[str]) -> Any:
    what = "; ".join(TASKS[name].help for name in names)
    return click.option("--task", type=Choice(names), help=f"What a text has: {what}.  [default: {DEFAULT}]")


TASK, TRAINED_TASK = _task(_LABELING), _task(list(TASKS))
SPLIT = click.option("--split", help="Split of a dataset of the hub, such as test or train+test.  [default: train]")
CONFIG = click.option("--config-name", help="Configuration of a dataset of the hub that has several.")


def data_options(function: Any) -> Any:
    """Columns, split and configuration."""
    return TEXT(PAIR(SPLIT(CONFIG(function))))


def single_text_options(function: Any) -> Any:
    """The same without pairs."""
    return TEXT(SPLIT(CONFIG(function)))


def task_options(function: Any) -> Any:
    """What the labels are."""
    return TASK(ORDER(function))


def trained_task_options(function: Any) -> Any:
    """The same, and texts that are generated."""
    return TRAINED_TASK(ORDER(function))
