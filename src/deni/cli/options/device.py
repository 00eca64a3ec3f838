"""The option that says where to compute."""

from __future__ import annotations

import click

DEVICE = click.option(
    "--device", metavar="NAME", help="Device to compute on: auto, cpu, cuda, cuda:1 or mps.  [default: auto]"
)
