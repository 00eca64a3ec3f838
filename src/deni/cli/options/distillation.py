"""Options that say how a student learns from a teacher."""

from __future__ import annotations

from typing import Any

import click

from deni.cli.options.choice import Choice
from deni.cli.options.numbers import COUNT, Number

_OPTIONS = (
    click.option(
        "--start",
        type=Choice(["encoder", "merged"]),
        help="Where the student starts: encoder, as any training; merged, at the mean of the teacher's members.  "
        "[default: encoder]",
    ),
    click.option(
        "--vote-temperature",
        type=Number(),
        help="Divides the log probabilities that the student learns.  [default: that of a calibrated teacher, else 1]",
    ),
    click.option(
        "--labels-share",
        type=Number(),
        help="Share of the label in what is learned of a labeled text; the rest is out-of-fold.  [default: 0.5]",
    ),
    click.option(
        "--weights",
        type=Choice(["agreement", "equal"]),
        help="How much an unlabeled text counts: as far as the members agree, or equally.  [default: agreement]",
    ),
    click.option("--pool-size", type=COUNT, help="Most unlabeled texts to train on.  [default: as many as fit]"),
    click.option(
        "--held-out",
        type=click.IntRange(0, 2**31 - 1),
        help="Unlabeled texts to compare both models on, at most a tenth.  [default: 100]",
    ),
)
NAMES = ("start", "vote_temperature", "labels_share", "weights", "pool_size", "held_out")


def distillation_options(function: Any) -> Any:
    """The fields of `deni.distillation.Distillation`; None means not given."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def take_distillation(given: dict[str, Any]) -> dict[str, Any]:
    """Those that are given, which are removed from what is given."""
    values = {name: given.pop(name) for name in NAMES}
    return {name: value for name, value in values.items() if value is not None}
