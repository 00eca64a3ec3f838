"""Flags that had another name: the old one works for a while, with a warning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from deni.deprecation import Renamed, deprecate

RENAMED = {"--labelled": Renamed("--labeled", removal="0.3")}


def renamed_flags(command: click.Command, args: Sequence[str], renames: Mapping[str, Renamed] = RENAMED) -> list[str]:
    """Today's names in place of old ones, each with a warning; what follows `--` is no flag.

    Raises:
        UsageError: a flag under both of its names.
    """
    known = {name for option in command.params for name in option.opts}
    end = args.index("--") if "--" in args else len(args)
    given = {arg.partition("=")[0] for arg in args[:end]}
    found = list(args)
    for at, arg in enumerate(args[:end]):
        old, equals, value = arg.partition("=")
        if old not in renames or renames[old].name not in known:
            continue
        name, removal = renames[old]
        if name in given:
            raise click.UsageError(f"{old} is the old name of {name}: give {name} alone")
        deprecate(old, name, removal)
        found[at] = f"{name}{equals}{value}"
    return found
