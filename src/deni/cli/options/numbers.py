"""Numbers of flags: what is not finite, or what nobody has so many of, is no number."""

from __future__ import annotations

import math
from typing import Any

import click

from deni.errors import short

MOST = 10_000  # processes, threads, seeds
COUNT = click.IntRange(1, 2**31 - 1)  # texts, steps


class Number(click.types.FloatParamType):
    """A finite number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, if it is one."""
        return _checked(self, super().convert(value, param, ctx), value, param, ctx)


class Whole(click.types.IntParamType):
    """A whole number of at most 64 bits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, if it is one."""
        number = super().convert(value, param, ctx)
        if not -(2**63) <= number < 2**63:
            self.fail(f"{short(number)} has more than 64 bits.", param, ctx)
        return number


class Finite(click.FloatRange):
    """`click.FloatRange` without NaN and infinities."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, if it is a finite number in the range."""
        return _checked(self, super().convert(value, param, ctx), value, param, ctx)


def _checked(kind: click.ParamType, number: float, value: Any, *where: Any) -> float:
    if not math.isfinite(number):
        kind.fail(f"{short(value)} is not a finite number.", *where)
    return number
