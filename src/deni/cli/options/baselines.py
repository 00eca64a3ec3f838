"""Options that name baselines, and set what those that ask a server need."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from deni.baselines import BASELINES, make_baseline
from deni.cli.options.fields import field_options, taken


def baseline_options(usual: str) -> Any:
    """A decorator that adds the options.

    Args:
        usual: those that are fitted where none is named.
    """

    def decorate(function: Any) -> Any:
        function = field_options(BASELINES.built_in())(function)
        for option in (
            click.option("--no-baselines", is_flag=True, help="Fit no baselines."),
            click.option(
                "--baselines",
                metavar="A,B",
                shell_complete=_complete,
                help=f"Baselines on the same test texts; llm and setfit only where named.  [default: {usual}]",
            ),
        ):
            function = option(function)
        return function

    return decorate


def take_baselines(given: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """The named baselines with their settings, which are removed from what is given; None where none is named.

    Raises:
        click.UsageError: settings of a baseline that is not named.
        SettingError: a baseline or value that does not exist.
        InputError: what a named one lacks, such as a package or a key.
    """
    classes = BASELINES.built_in()
    settings = taken(given, classes.values())
    for name in _fields(classes):
        given.pop(name, None)
    named, none = given.pop("baselines"), given.pop("no_baselines")
    if none and named is not None:
        raise click.UsageError("give --baselines or --no-baselines, not both")
    names = [] if named is None else [name.strip() for name in named.split(",") if name.strip()]
    found = {}
    for name in dict.fromkeys(names):
        own = _fields({name: classes[name]}) if name in classes else set()
        found[name] = {key: value for key, value in settings.items() if key in own}
        make_baseline(name, **found[name]).check()
    if lost := sorted(set(settings) - {key for each in found.values() for key in each}):
        owner = next(name for name, cls in classes.items() if lost[0] in _fields({name: cls}))
        flag = "--" + lost[0].replace("_", "-")
        raise click.UsageError(f"{flag} is a setting of the baseline {owner}: name it, as --baselines frozen,{owner}")
    return found if named is not None or none else None


def _fields(classes: Mapping[str, type]) -> set[str]:
    return {field.name for cls in classes.values() for field in dataclasses.fields(cls)}


def _complete(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in BASELINES if name.startswith(last)]
