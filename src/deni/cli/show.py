"""`deni show`: what a strategy will do, and what it costs."""

from __future__ import annotations

from typing import Any

import click

from deni.cli import example
from deni.cli.options.choice import Choice
from deni.cli.options.fields import PluginCommand, field_options, taken
from deni.strategies import PRESETS, STRATEGIES


@click.command("show", cls=PluginCommand, epilog=example("deni show deni --steps 1250"))
@click.argument("strategy", required=False)
@click.option("--steps", type=click.IntRange(min=1), default=1250, show_default=True, help="Optimizer steps of a run.")
@click.option("--preset", type=Choice(PRESETS), help="Preset for settings not given on the command line.")
@field_options(STRATEGIES)
def command(strategy: str | None, steps: int, preset: str | None, **settings: Any) -> None:
    """Show the schedule of STRATEGY and its cost; without one, list all."""
    from deni.commands.show import show_strategies

    if strategy is None:
        for each in show_strategies(steps=steps, preset=preset):
            click.echo(f"{each.name:22}{each.schedule.cost:8} member-steps {each.share:8.1%}   {each.schedule}")
        for name in STRATEGIES.names()[len(STRATEGIES) :]:
            click.echo(f"{name:22}of a plug-in, see deni show {name}")
        return
    (shown,) = show_strategies(strategy, steps=steps, preset=preset, **taken(settings, STRATEGIES.values()))
    click.echo(shown.schedule)
    click.echo(f"member-steps: {shown.schedule.cost}")
    click.echo(f"cost: {100 * shown.share:.1f} % of an ensemble of ten")
    click.echo(f"members at the same time: {shown.schedule.peak}")
