"""Pages of the command line, made from its help texts when the site is built."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import click

from deni.cli import COMMANDS, main
from deni.cli.options.fields import SettingOption
from deni.cli.options.groups import GroupedCommand, record

FOLDER = "commands"
DEFAULT = re.compile(r"\s*\[default: (.*)\]$", re.DOTALL)
REQUIRED = re.compile(r"\s*\[required\]|;\s*required(?=\])")


def on_config(config: Any) -> Any:
    """Puts the pages into the navigation."""
    pages = [f"{FOLDER}/index.md", *({f"deni {name}": f"{FOLDER}/{name}.md"} for name in COMMANDS)]
    place = next(item for item in config.nav if "Command line" in item)
    place["Command line"] = pages
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages to the site."""
    from mkdocs.structure.files import File

    with warnings.catch_warnings(action="ignore"):  # others' notices when they are imported
        files.append(File.generated(config, f"{FOLDER}/index.md", content=overview()))
        for name in COMMANDS:
            files.append(File.generated(config, f"{FOLDER}/{name}.md", content=page(name)))
    return files


def overview() -> str:
    """The page of `deni` itself: what each command does."""
    context = click.Context(main, info_name="deni", **main.context_settings)
    lines = ["# Command line", "", "| command | what it does |", "| --- | --- |"]
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        lines.append(f"| [deni {name}]({name}.md) | {_cell(_paragraphs(command)[0])} |")
    return "\n".join([*lines, "", *_options(main, context), ""])


def page(name: str) -> str:
    """The page of one command, with those below it."""
    context = click.Context(main, info_name="deni", **main.context_settings)
    command = main.get_command(context, name)
    assert command is not None
    return "\n".join([*_sections(command, click.Context(command, context, name), 1), ""])


def _sections(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield from (f"{'#' * level} {context.command_path}", "")
    for paragraph in _paragraphs(command):
        yield from (paragraph, "")
    example = re.sub(r"^\x08?\s*Example:\s*", "", command.epilog or "")
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield from ("```text", *(line.strip() for line in usage.splitlines()), "```", "")
    yield from ("For example:", "", "```bash", example, "```", "")
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield ""
            yield from _sections(below, click.Context(below, context, name), level + 1)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    """A table of each group of options, and one of those that are settings of a strategy, tuning or method."""
    plain: dict[str, str] = {}
    owned = []
    for option in command.get_params(context):
        found = record(option, context) if isinstance(option, click.Option) else None
        if found is None or not isinstance(option, click.Option) or option.name is None:
            continue
        flags, text = found[0], REQUIRED.sub("", found[1])
        shown = DEFAULT.search(text)
        default = "required" if option.required else _code(shown[1]) if shown else ""
        text = DEFAULT.sub("", text).strip()
        if isinstance(option.type, click.Choice):
            flags = flags.partition(" [")[0]
            choices = ", ".join(map(str, option.type.choices))
            text = f"{text} {'One of' if ',' in choices else 'Only'} {choices}.".strip()
        row = f"| `{flags}` | {_cell(text)} |"
        if isinstance(option, SettingOption):
            owned.append(f"{row} {', '.join(option.owners)} |")
        else:
            plain[option.name] = f"{row} {default} |"
    groups = command.groups if isinstance(command, GroupedCommand) else {}
    for title, names in groups.items():
        yield from (f"{title}:", "", "| option | meaning | default |", "| --- | --- | --- |")
        yield from (*(plain.pop(name) for name in names), "")
    if groups:
        yield from ("Other:", "")
    yield from ("| option | meaning | default |", "| --- | --- | --- |", *plain.values())
    if owned:
        yield from ("", "Settings; their defaults are those of what they belong to:", "")
        yield from ("| option | meaning | of |", "| --- | --- | --- |", *owned)


def _paragraphs(command: click.Command) -> list[str]:
    """The help text, line breaks and examples left out."""
    text = (command.help or "").replace("\b", "").partition("Example:")[0]
    return [_prose(" ".join(each.split())) for each in re.split(r"\n\s*\n", text.strip())]


def _code(text: str) -> str:
    return f"`{text}`" if re.fullmatch(r"[\w./~-]+", text) else _cell(text)


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")


def _prose(text: str) -> str:
    """Text of a terminal as Markdown: nothing in it is markup, but for code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([<*_\[\]{}])", r"\\\1", part) for part in parts)
