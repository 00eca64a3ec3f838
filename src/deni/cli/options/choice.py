"""A value out of a few: one that is mistyped gets the one that was meant."""

from __future__ import annotations

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
