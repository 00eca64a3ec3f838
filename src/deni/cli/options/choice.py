"""A value out of a few: one that is mistyped gets the one that was meant; or a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import click

from deni.errors import did_you_mean


class Choice(click.Choice):
    """`click.Choice` with "did you mean X?" in place of a list where a value is nearly one of the choices."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, if it is one of the choices."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"unknown {value!r}: {did_you_mean(str(value), [str(each) for each in self.choices])}", param, ctx
            )


class NumberOr(click.ParamType):
    """A number, or one of a few words.

    Args:
        words: what else it may be.
    """

    name = "float"

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """How it is shown in a help text."""
        return "|".join(("FLOAT", *self.words))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or the word."""
        if value in self.words:
            return value
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {' or '.join(self.words)}", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
