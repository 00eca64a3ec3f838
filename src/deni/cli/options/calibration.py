"""Options of calibrated probabilities, and of labeled texts that a model has not learned."""

from __future__ import annotations

import click

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
