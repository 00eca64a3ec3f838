"""Options of calibrated probabilities, and of labeled texts that a model has not learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from deni.terminal import say

if TYPE_CHECKING:
    from deni.measures import Selection

CALIBRATED = click.option(
    "--calibrated/--uncalibrated",
    default=True,
    help="Whether probabilities are calibrated, where the model has a temperature.  [default: calibrated]",
)
CALIBRATION = click.option(
    "--calibration",
    metavar="FILE",
    help="Labeled texts that the model has not learned, in place of its out-of-fold predictions.",
)
CALIBRATION_LABEL = click.option(
    "--label-column", help="Column of the labels in the file of --calibration.  [default: label]"
)


def say_selection(selection: Selection) -> None:
    """Print where answers are given, on standard error: the output may be standard output."""
    say(
        f"Accuracy {selection.target:g}: answers where the confidence is above {selection.threshold:.3f}, expected for "
        f"{100 * selection.coverage:.0f} % of the texts ({selection.answered} of {selection.texts} labeled texts, "
        f"{selection.errors} wrong)",
        err=True,
    )
