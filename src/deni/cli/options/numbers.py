"""Numbers of flags: what is not finite, or what nobody has so many of, is no number."""

from __future__ import annotations

import math
from typing import Any

import click

MOST = 10_000  # processes, threads, seeds


class Finite(click.FloatRange):
    """`click.FloatRange` without NaN and infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, if it is a finite number in the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number
