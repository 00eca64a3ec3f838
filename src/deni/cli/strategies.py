"""`deni strategies`: what each strategy does, when to take it, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from deni.baselines import BASELINES
from deni.cli import example
from deni.cli.options.cards import about, in_a_line, write_about, write_rows, write_settings
from deni.cli.options.choice import Choice
from deni.cli.options.fields import SettingsCommand, complete, field_options, names_in, setting_rows, taken
from deni.cli.options.groups import GroupedCommand
from deni.cli.options.numbers import COUNT
from deni.strategies import PRESETS, STRATEGIES
from deni.strategies.auto import Auto
from deni.terminal import say

if TYPE_CHECKING:
    from deni.commands.strategies import StrategyCost

STEPS = click.option("--steps", type=COUNT, default=1250, show_default=True, help="Optimizer steps of a run.")
PRESET = click.option("--preset", type=Choice(PRESETS), help="Preset for settings not given on the command line.")


@click.group("strategies", invoke_without_command=True, epilog=example("deni strategies show deni --steps 1250"))
@click.pass_context
def command(context: click.Context) -> None:
    """Show what each strategy does, when to take it, and its cost."""
    if context.invoked_subcommand is None:
        context.invoke(list_all, steps=1250, preset=None)


@command.command("list", cls=GroupedCommand, epilog=example("deni strategies list"))
@STEPS
@PRESET
def list_all(steps: int, preset: str | None) -> None:
    """List the strategies: what each does, when to take it, and its cost as a multiple of plain fine-tuning."""
    from deni.commands.strategies import show_strategies

    shown = show_strategies(steps=steps, preset=preset)
    rows = [(f"{each.name:20} {_cost(each, steps)}", in_a_line(STRATEGIES[each.name])) for each in shown]
    plugins = STRATEGIES.names()[len(STRATEGIES) :]
    rows += [(f"{name:20}     ?", "Of a plug-in, which is loaded when it is named.") for name in plugins]
    rows = [(f"{'strategy':20}  cost", "what it does, and when to take it"), *rows]
    write_rows(rows)
    say("\nBaselines, beside which each model is reported; in deni study and deni diagnose they run as strategies do:")
    write_rows([(f"{name:20}     0", in_a_line(cls)) for name, cls in BASELINES.built_in().items()])
    say(f"\nCost: member-steps of a run of {steps} optimizer steps, divided by {steps}.")
    say("Several strategies are combined with +, such as prior_noise+deni.")
    say("Next: deni strategies show NAME")


def _cost(shown: StrategyCost, steps: int) -> str:
    return f"{shown.schedule.cost / steps:5.3g}" if shown.schedule else "    ?"


@command.command(
    "show",
    cls=SettingsCommand,
    owners={"strategy": STRATEGIES},
    epilog=example("deni strategies show deni --steps 1250"),
    more="Settings are flags: with a STRATEGY this help shows them, too.",
)
@click.argument("strategy", shell_complete=complete(STRATEGIES))
@STEPS
@PRESET
@field_options(STRATEGIES)
def show(strategy: str, steps: int, preset: str | None, **settings: Any) -> None:
    """Show what STRATEGY does, its schedule, its cost and its settings."""
    from deni.commands.strategies import show_strategies

    (shown,) = show_strategies(strategy, steps=steps, preset=preset, **taken(settings, STRATEGIES.values()))
    for name in names_in(strategy):
        write_about(name, *about(STRATEGIES[name]))
    if strategy == Auto.name:
        _write_table()
        return
    say()
    say(f"schedule: {shown.schedule}")
    say(f"member-steps: {shown.schedule.cost}")
    say(f"cost: {100 * shown.share:.1f} % of an ensemble of ten")
    say(f"members at the same time: {shown.schedule.peak}")
    for name in names_in(strategy):
        cls, title = STRATEGIES[name], f"Settings of {name}{f' with the preset {preset}' if preset else ''}"
        say()
        write_settings(title, setting_rows(cls, click.get_current_context(), cls.presets.get(preset or "", {})))


def _write_table() -> None:
    """Print what `auto` becomes."""
    from deni.auto import ROWS

    say("\nThe first of these rows that fits the labeled texts decides; flags that are given win over it:")
    for row in ROWS:
        rows = [("for", row.when()), ("becomes", row.becomes()), ("why", row.why), ("evidence", row.evidence)]
        say(f"\n{row.name}")
        write_rows(rows)
    say("\nNext: deni show auto FILE")
