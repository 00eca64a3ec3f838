"""Command-line options from the fields of dataclasses: the settings of strategies, tunings and methods."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click
from click.shell_completion import CompletionItem

from deni.cli.options.choice import Choice, NumberOr
from deni.cli.options.groups import GroupedCommand
from deni.cli.options.numbers import Number, Whole
from deni.errors import did_you_mean
from deni.registry import Registry
from deni.strategies import ALIASES, STRATEGIES
from deni.tuning import TUNINGS

NAMED = "deni.named"  # of a call's context: option -> the names given to it, such as strategy -> llrd, deni
PLUGINS = "deni.plugins"  # of a call's context: the options of the plug-ins that it names


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


class SettingOption(click.Option):
    """A flag for a setting of strategies, tunings or methods: None means not given.

    Args:
        owners: the names of those that have it.
    """

    def __init__(self, *declaration: Any, owners: tuple[str, ...] = (), **attributes: Any) -> None:
        super().__init__(*declaration, **attributes)
        self.owners = owners


def field_options(table: Mapping[str, type], skip: Collection[str] = ()) -> Callable[[Any], Any]:
    """A decorator that adds an option for each field of the dataclasses in a table; None means not given.

    Args:
        skip: fields for which the command has an option already.
    """

    def decorate(function: Any) -> Any:
        for declaration, attributes in reversed(list(_options(table, skip))):
            function = click.option(*declaration, cls=SettingOption, **attributes)(function)
        return function

    return decorate


class SettingsCommand(GroupedCommand):
    """A command that has a flag for each setting of what its options name.

    Its help shows the settings only of what this call names, wherever in the line the name stands: the whole line is
    parsed before `--help` is obeyed. Plug-ins that are named have flags, too.

    Args:
        owners: option or argument -> table of the classes that it names, such as `strategy`.
    """

    def __init__(self, *arguments: Any, owners: Mapping[str, Mapping[str, type]], **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.owners = owners

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Load the plug-ins that are named; others stay where they are."""
        words = {part.strip() for arg in args for part in arg.rpartition("=")[2].split("+")}
        for registry in (STRATEGIES, TUNINGS):
            chosen = {name: registry[name] for name in sorted(words & set(registry.plugins()))}
            there = {option.name for option in self.get_params(ctx)}
            options = _options(chosen, {name for name in there if name})
            ctx.meta.setdefault(PLUGINS, []).extend(SettingOption(names, **more) for names, more in options)
        ctx.meta[NAMED] = self._named(ctx, args)
        return super().parse_args(ctx, args)

    def _named(self, ctx: click.Context, args: list[str]) -> dict[str, list[str]]:
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = True
        try:
            given = parser.parse_args(list(args))[0]
        except click.UsageError:  # it is reported when the line is parsed for good
            return {}
        values = {name: given[name] for name in self.owners if isinstance(given.get(name), str)}
        return {name: names_in(value) for name, value in values.items()}

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """With those of the plug-ins that this call names."""
        return [*super().get_params(ctx), *ctx.meta.get(PLUGINS, ())]

    def sections(self, ctx: click.Context) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """The groups of options, then the settings of what this call names."""
        yield from super().sections(ctx)
        for option, names in ctx.meta.get(NAMED, {}).items():
            for name in names:
                table = self.owners[option]
                if name in table:
                    rows = setting_rows(table[name], ctx) or [("none", "")]
                else:
                    rows = [("unknown", did_you_mean(name, list(table)))]
                yield f"Settings of the {option.removesuffix('s')} {name}", rows

    def grouped(self, option: click.Option) -> bool:
        """Whether an option belongs into a group; a setting is shown with what has it."""
        return not isinstance(option, SettingOption)


def complete(table: Registry[Any]) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Completes a name of the table, also the last one of `a+b`."""

    def completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, plus, last = incomplete.rpartition("+")
        return [CompletionItem(before + plus + name) for name in table.names() if name.startswith(last)]

    return completed


def names_in(value: str) -> list[str]:
    """The names in `a+b` or `a,b`, without aliases."""
    return [ALIASES.get(part.strip(), part.strip()) for part in re.split(r"[+,]", value)]


def setting_rows(cls: type, ctx: click.Context, defaults: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """Flag and meaning of each setting of a class, with its default.

    Args:
        defaults: those that differ from the class's, such as those of a preset.
    """
    fields = {field.name: field.default for field in dataclasses.fields(cls)}
    fields |= defaults or {}
    rows = []
    for declaration, attributes in _options({"": cls}, ()):
        option = SettingOption(declaration, **attributes)
        record = option.get_help_record(ctx)
        assert record is not None
        rows.append((record[0], f"{record[1]}  [default: {_shown(fields[declaration[1]])}]"))
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == "":
        return "none"
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _options(table: Mapping[str, type], skip: Collection[str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
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
    for name in sorted(owners, key=lambda name: texts[name].startswith("experimental")):
        if name in skip:
            continue
        flag = "--" + name.replace("_", "-")
        attributes = {"default": None, "help": _sentence(texts[name]), "owners": tuple(owners[name])}
        if kinds[name] is bool:
            yield [f"{flag}/--no-{flag[2:]}", name], attributes
        else:
            yield [flag, name], {"type": _type(kinds[name]), **attributes}


def _sentence(text: str) -> str:
    """A line of a docstring as help: a capital first, code without its marks."""
    return (text[:1].upper() + text[1:]).replace("`", "")


def taken(given: Mapping[str, Any], table: Iterable[type]) -> dict[str, Any]:
    """Those of the given values that are fields of the dataclasses; None means not given."""
    names = {field.name for cls in table for field in dataclasses.fields(cls)}
    return {key: value for key, value in given.items() if key in names and value is not None}


def _type(hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return Choice([str(choice) for choice in get_args(hint)])
    if get_origin(hint) in (Union, UnionType):  # `float | Literal["cv"]` is the former
        kinds = [each for each in get_args(hint) if each is not type(None)]
        words = [word for each in kinds if get_origin(each) is Literal for word in get_args(each)]
        return NumberOr(words) if words and float in kinds else _type(kinds[0])
    numbers = {float: Number(), int: Whole()}
    return numbers.get(hint, hint)
