"""Command-line options from the fields of dataclasses: the settings of strategies and tunings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from deni.cli.options.choice import Choice
from deni.strategies import STRATEGIES
from deni.tuning import TUNINGS


def describe(cls: type) -> dict[str, str]:
    """What the docstrings of a dataclass and its bases say of its fields, one line each.

    >>> from deni.strategies import DENI
    >>> describe(DENI)["ensemble_from"]
    'where the fork is, as a fraction of all steps; 0.9 in the paper.'
    """
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        args = inspect.cleandoc(each.__doc__ or "").partition("Args:")[2]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n        .*)*)", args, flags=re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def field_options(table: Mapping[str, type], skip: Collection[str] = ()) -> Callable[[Any], Any]:
    """A decorator that adds an option for each field of the dataclasses in a table; None means not given.

    Args:
        skip: fields for which the command has an option already.
    """

    def decorate(function: Any) -> Any:
        for declaration, attributes in reversed(_options(table, skip)):
            function = click.option(*declaration, **attributes)(function)
        return function

    return decorate


PLUGINS = "deni.plugins"  # of a call's context: the options of the plug-ins that it names


class PluginCommand(click.Command):
    """A command that has options for the settings of the plug-ins that are named in its arguments, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Load the plug-ins that are named; others stay where they are."""
        named = {part.strip() for arg in args for part in arg.rpartition("=")[2].split("+")}
        for registry in (STRATEGIES, TUNINGS):
            chosen = {name: registry[name] for name in sorted(named & set(registry.plugins()))}
            there = {option.name for option in self.get_params(ctx)}
            options = _options(chosen, {name for name in there if name})
            ctx.meta.setdefault(PLUGINS, []).extend(click.Option(names, **attributes) for names, attributes in options)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With those of the plug-ins that this call names."""
        return [*super().get_params(ctx), *ctx.meta.get(PLUGINS, ())]


def _options(table: Mapping[str, type], skip: Collection[str]) -> list[tuple[list[str], dict[str, Any]]]:
    """Declaration and attributes of an option for each field; experimental settings come last."""
    owners: dict[str, list[str]] = {}
    kinds: dict[str, Any] = {}
    texts: dict[str, str] = {}
    for name, cls in table.items():
        hints, described = get_type_hints(cls), describe(cls)
        for field in dataclasses.fields(cls):
            owners.setdefault(field.name, []).append(name)
            kinds.setdefault(field.name, hints[field.name])
            texts.setdefault(field.name, described.get(field.name, ""))
    options: list[tuple[list[str], dict[str, Any]]] = []
    for name in sorted(owners, key=lambda name: texts[name].startswith("experimental")):
        if name in skip:
            continue
        flag = "--" + name.replace("_", "-")
        help = f"{texts[name]} [{', '.join(owners[name])}]"
        if kinds[name] is bool:
            options.append(([f"{flag}/--no-{flag[2:]}", name], {"default": None, "help": help}))
        else:
            options.append(([flag, name], {"type": _type(kinds[name]), "default": None, "help": help}))
    return options


def taken(given: Mapping[str, Any], table: Iterable[type]) -> dict[str, Any]:
    """Those of the given values that are fields of the dataclasses; None means not given."""
    names = {field.name for cls in table for field in dataclasses.fields(cls)}
    return {key: value for key, value in given.items() if key in names and value is not None}


def _type(hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return Choice([str(choice) for choice in get_args(hint)])
    if isinstance(hint, UnionType):
        return _type(next(each for each in get_args(hint) if each is not type(None)))
    return hint
