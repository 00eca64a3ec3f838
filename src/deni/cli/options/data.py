"""Options that say which texts are meant."""

from __future__ import annotations

from typing import Any

import click

TEXT = click.option("--text-column", help="Column of the texts.  [default: the dataset's own, or text]")
PAIR = click.option("--text-pair-column", help="Column of second texts.  [default: the dataset's own, or none]")
LABEL = click.option("--label-column", help="Column of the labels.  [default: the dataset's own, or label]")
SPLIT = click.option("--split", help="Of a dataset of the hub, such as test or train+test.  [default: train]")
CONFIG = click.option("--config-name", help="Of a dataset of the hub that has several configurations.")


def data_options(function: Any) -> Any:
    """Columns, split and configuration."""
    return TEXT(PAIR(SPLIT(CONFIG(function))))


def single_text_options(function: Any) -> Any:
    """The same without pairs."""
    return TEXT(SPLIT(CONFIG(function)))
