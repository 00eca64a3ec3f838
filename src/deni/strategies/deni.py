"""Delayed ensemble with noisy interpolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.strategies.delayed_ensemble import DelayedEnsemble
from deni.strategies.noisy_interpolation import NoisyInterpolation


@dataclass(frozen=True)
class DENI(DelayedEnsemble, NoisyInterpolation, name="deni", paper_row=14):
    """Noisy interpolation in the middle of training, a delayed ensemble at the end (arXiv 2406.12471).

    >>> print(DENI().schedule(1250), DENI().schedule(1250).cost)
    1x375 10x125 1x125 10x125 1x375 10x125 4625
    """

    when: ClassVar[str] = (
        "When results vary too much with the seed, and about a third of an ensemble's cost is affordable."
    )
