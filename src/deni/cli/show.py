"""`deni show`: what a strategy will do, and what it costs."""

from __future__ import annotations

from typing import Any

import click

from deni.cli import example
from deni.cli.options.fields import field_options, taken
from deni.strategies import PRESETS, STRATEGIES, Ensemble, make_strategy


@click.command("show", epilog=example("deni show deni --steps 1250"))
@click.argument("strategy", required=False)
@click.option("--steps", type=click.IntRange(min=1), default=1250, show_default=True, help="Optimiser steps of a run.")
@click.option("--preset", type=click.Choice(PRESETS), help="Settings that are not given.")
@field_options(STRATEGIES)
def command(strategy: str | None, steps: int, preset: str | None, **settings: Any) -> None:
    """Show the schedule of STRATEGY and its cost; without one, list all."""
    ten = Ensemble(members=10).schedule(steps).cost
    if strategy is None:
        for name in STRATEGIES:
            schedule = make_strategy(name, preset).schedule(steps)
            click.echo(f"{name:22}{schedule.cost:8} member-steps {schedule.cost / ten:8.1%}   {schedule}")
        return
    schedule = make_strategy(strategy, preset, **taken(settings, STRATEGIES.values())).schedule(steps)
    click.echo(schedule)
    click.echo(f"member-steps: {schedule.cost}")
    click.echo(f"cost: {100 * schedule.cost / ten:.1f} % of an ensemble of ten")
    click.echo(f"members at the same time: {schedule.peak}")
