"""Options that say where and how packs are trained."""

from __future__ import annotations

from typing import Any

import click

from deni.cli.options.choice import Choice

RUNNERS = ("serial", "processes", "ray")


def running_options(function: Any) -> Any:
    """Runner, workers, pack, threads, a Ray cluster, progress: the arguments of `deni.study.execution.run.Run`."""
    options = (
        click.option("--runner", type=Choice(RUNNERS), default="serial", show_default=True, help="Where to train."),
        click.option("--workers", type=click.IntRange(min=1), help="Packs at a time.  [default: one a GPU; 1 on CPU]"),
        click.option(
            "--pack", default="auto", show_default=True, help="Cells trained in one population: a number, or auto."
        ),
        click.option("--threads", type=click.IntRange(min=1), help="Of each worker.  [default: cores / workers]"),
        click.option("--address", help="Of a Ray cluster.  [default: one on this machine]"),
        click.option("--gpus-per-worker", type=click.FloatRange(min=0), help="With Ray; a fraction shares a GPU."),
        click.option("--progress/--no-progress", default=True, help="Show how far it is."),
    )
    for option in reversed(options):
        function = option(function)
    return function
