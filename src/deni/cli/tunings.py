"""`deni tunings`: which parameters each tuning trains, and when to take it."""

from __future__ import annotations

import click

from deni.cli import example
from deni.cli.options.cards import about, in_a_line, write_about, write_rows, write_settings
from deni.cli.options.fields import complete, setting_rows
from deni.terminal import say
from deni.tuning import TUNINGS


@click.group("tunings", invoke_without_command=True, epilog=example("deni tunings show lora"))
@click.pass_context
def command(context: click.Context) -> None:
    """Show which parameters each tuning trains, and when to take it."""
    if context.invoked_subcommand is None:
        context.invoke(list_all)


@command.command("list", epilog=example("deni tunings list"))
def list_all() -> None:
    """List the tunings: what each trains, and when to take it."""
    rows = [(name, in_a_line(TUNINGS[name])) for name in TUNINGS]
    rows += [(name, "Of a plug-in, which is loaded when it is named.") for name in TUNINGS.names()[len(TUNINGS) :]]
    write_rows(rows)
    say("\nNext: deni tunings show NAME")


@command.command("show", epilog=example("deni tunings show lora"))
@click.argument("tuning", shell_complete=complete(TUNINGS))
def show(tuning: str) -> None:
    """Show what TUNING trains, its learning rate and its settings, which are flags of deni train."""
    from deni.tuning import make_tuning

    cls = type(make_tuning(tuning))
    write_about(cls.name, *about(cls))
    say()
    say(f"default learning rate: {cls.learning_rate}\n")
    write_settings("Settings", setting_rows(cls, click.get_current_context()))
