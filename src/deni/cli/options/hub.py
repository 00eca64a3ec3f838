"""The option that pins a model of the hub."""

from __future__ import annotations

import click

REVISION = click.option(
    "--revision", metavar="NAME", help="Branch, tag or commit of a MODEL of the hub.  [default: main]"
)
