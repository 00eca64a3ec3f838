"""Options that say which texts are meant."""

from __future__ import annotations

from typing import Any

import click


def data_options(function: Any) -> Any:
    """Columns, split and configuration."""
    options = (
        click.option("--text-column", help="Column of the texts.  [default: the dataset's own, or text]"),
        click.option("--text-pair-column", help="Column of second texts.  [default: the dataset's own, or none]"),
        click.option("--split", help="Of a dataset of the hub, such as test or train+test.  [default: train]"),
        click.option("--config-name", help="Of a dataset of the hub that has several configurations."),
    )
    for option in reversed(options):
        function = option(function)
    return function
