"""Options that say where and how packs are trained."""

from __future__ import annotations

from typing import Any

import click

from deni.cli.options.choice import Choice
from deni.cli.options.device import DEVICE
from deni.cli.options.numbers import MOST, Finite

RUNNERS = ("serial", "processes", "ray")


def running_options(function: Any) -> Any:
    """Where and how packs train: the arguments of `deni.study.execution.run.Run`."""
    options = (
        DEVICE,
        click.option(
            "--runner",
            type=Choice(RUNNERS),
            default="serial",
            show_default=True,
            help="Where packs train: in this process, in processes, or on Ray.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, MOST),
            help="Packs that train at the same time.  [default: one a GPU; 1 on CPU]",
        ),
        click.option(
            "--pack", default="auto", show_default=True, help="Cells trained in one population: a number, or auto."
        ),
        click.option(
            "--threads", type=click.IntRange(1, MOST), help="Threads of each worker.  [default: cores / workers]"
        ),
        click.option("--address", help="Address of a Ray cluster.  [default: one on this machine]"),
        click.option("--gpus-per-worker", type=Finite(min=0), help="GPUs of each Ray worker; a fraction shares one."),
        click.option("--progress/--no-progress", default=True, help="Show a progress bar."),
    )
    for option in reversed(options):
        function = option(function)
    return function
