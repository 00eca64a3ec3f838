"""Noisy copies that are trained briefly and averaged back, in the middle of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deni.schedule import Phase
from deni.strategies.forking import Forking, check_fraction, part


@dataclass(frozen=True)
class NoisyInterpolation(Forking, name="noisy_interpolation", paper_row=13):
    """Fork, train briefly, merge, train alone, and repeat (arXiv 2406.12471).

    Args:
        interpolate_from: where the first fork may be, as a fraction of all steps; 0.3 in the paper.
        interpolate_until: no fork from here on, as a fraction of all steps; 0.6 in the paper.
        together: how long the members of a fork train, as a fraction of all steps; 0.1 in the paper.
        apart: how long the merged model trains alone before the next fork, as a fraction of all steps; 0.1 in the
            paper.
    """

    when: ClassVar[str] = "When prediction may cost one forward pass only, but training may cost more."

    of_forks: ClassVar[tuple[str, ...]] = ("interpolate_from", "interpolate_until", "together", "apart")

    interpolate_from: float = 0.3
    interpolate_until: float = 0.6
    together: float = 0.1
    apart: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("interpolate_from", "interpolate_until", "together", "apart"):
            check_fraction(field, getattr(self, field))

    def phases(self, steps: int) -> list[Phase]:
        start = max(0, part(self.interpolate_from, steps) - self.shift)
        stop = max(start + 1, part(self.interpolate_until, steps) - self.shift)
        together, apart = max(1, part(self.together, steps)), max(1, part(self.apart, steps))
        forks = range(start, stop, together + apart)
        return [Phase(at, at + together, self.members, self.fork(at, fade=True)) for at in forks]
