"""Help in sections: a command with many options shows them in groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import click

from deni.cli.options.renamed import renamed_flags

_RANGE = r"(?:[\d.]+<=?x(?:<=?[\d.]+)?|x[<>]=?[\d.]+)"  # as click writes it, alone or behind the default
_RANGES = re.compile(rf"\s*\[{_RANGE}\]|;\s*{_RANGE}(?=\])|(?<=\[){_RANGE};\s*")


class GroupedCommand(click.Command):
    """A command whose help has a section for each group of its options.

    Args:
        groups: title -> names of options, in the order in which they are shown; the rest comes last.
        more: a sentence below the options.
    """

    def __init__(self, *arguments: Any, groups: Mapping[str, str] | None = None, more: str = "", **attributes: Any):
        super().__init__(*arguments, **attributes)
        self.groups = {title: names.split() for title, names in (groups or {}).items()}
        self.more = more

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read old names of flags as today's."""
        return super().parse_args(ctx, renamed_flags(self, args))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, each in the widths of its own columns."""
        for title, rows in self.sections(ctx):
            with formatter.section(title):
                formatter.write_dl(rows)
        if self.more:
            formatter.write_paragraph()
            formatter.write_text(self.more)

    def sections(self, ctx: click.Context) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Title and rows, a flag and its help, of each section."""
        options = {each.name: each for each in self.get_params(ctx) if isinstance(each, click.Option)}
        listed = {name for names in self.groups.values() for name in names}
        rest = [name for name, option in options.items() if name not in listed and self.grouped(option)]
        for title, names in {**self.groups, "Other" if self.groups else "Options": rest}.items():
            records = (record(options[name], ctx) for name in names if name is not None)
            if rows := [each for each in records if each is not None]:
                yield title, rows

    def grouped(self, option: click.Option) -> bool:
        """Whether an option belongs into a group."""
        return True


def record(option: click.Option, ctx: click.Context) -> tuple[str, str] | None:
    """Flag and help of an option, without the ranges of numbers, which its error message has; None if it is hidden."""
    found = option.get_help_record(ctx)
    return found and (found[0].replace(" RANGE", ""), _RANGES.sub("", found[1]))
