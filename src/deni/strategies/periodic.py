"""Steps that come at regular intervals in a part of the training."""

from __future__ import annotations

from dataclasses import dataclass

from deni.errors import SettingError
from deni.strategies.base import Strategy
from deni.strategies.forking import check_fraction, part


@dataclass(frozen=True)
class Periodic(Strategy):
    """A strategy that does something every so often; lengths are fractions of all steps.

    Args:
        noise_from: when the noise begins, as a fraction of all steps; 0.3 in the paper.
        noise_until: when the noise ends, as a fraction of all steps; 0.9 in the paper.
        noise_every: from one noisy step to the next, as a fraction of all steps; 0.02 in the paper, 25 of 1250 steps.
    """

    noise_from: float = 0.3
    noise_until: float = 0.9
    noise_every: float = 0.02

    def __post_init__(self) -> None:
        for name in ("noise_from", "noise_until", "noise_every"):
            check_fraction(name, getattr(self, name))
        if self.noise_every == 0:
            raise SettingError("noise_every must be above 0: it is a fraction of all steps")

    def due(self, steps: int) -> range:
        """The numbers of steps after which it is due.

        >>> Periodic().due(1250)
        range(375, 1125, 25)
        """
        return range(part(self.noise_from, steps), part(self.noise_until, steps), max(1, part(self.noise_every, steps)))
