"""What strategies that fork have in common: how copies are made, merged and asked."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from deni.errors import SettingError
from deni.noise import Noise, faded
from deni.schedule import Fork, ForkSettings
from deni.settings import subset
from deni.strategies.voting import Voting

PAPER, FULL = 0.15, 0.005  # variances, see `Forking`

# Of a fork whose members stay one model.
REMEDY = "raise --variance, fork earlier, or give each member its own order (--member-order own)"


@dataclass(frozen=True)
class Forking(ForkSettings, Noise, Voting):
    """A strategy that forks one model into members.

    The settings of its noise are those of `deni.noise.Noise`, those of its copies of `deni.schedule.ForkSettings`.

    Args:
        variance: variance v of the noise, from 0 to 1e30; None for what is known to make members differ: 0.15 with PEFT
            or on the head, as in the paper; with full tuning noise on all that trains, with 0.15 in interpolations and
            0.005 at the last fork, where 0.15 on the head left members that are one model (results/fork_full.md).
        shift: begin every phase so many steps earlier; the released code counts steps from 1 and so forks one early.
    """

    variance: float | None = None  # type: ignore[assignment]  # of `Noise`, once `for_tuning` knows the tuning
    shift: int = 0

    of_forks: ClassVar = (
        *("members", "combine", "shift"),
        *(field.name for each in (Noise, ForkSettings) for field in dataclasses.fields(each)),
    )

    by_run: ClassVar = ("variance", "scale", "floor", "antithetic")

    presets: ClassVar = {
        "paper": {"combine": "hard", "variance": PAPER},
        "released": {
            "variance": PAPER,
            "fork_optimizer": "fresh",
            "fork_rate": "constant",
            "combine": "parent",
            "shift": 1,
        },
    }

    def __post_init__(self) -> None:
        Voting.__post_init__(self)
        if self.shift < 0:
            raise SettingError(f"shift must be at least 0, not {self.shift}")
        self.fork(0)  # checks the rest

    def for_tuning(self, adapter: bool) -> Self:
        if self.variance is not None:
            return self
        if adapter or self.scope == "head" or self.members == 1:
            return replace(self, variance=PAPER)
        return replace(self, scope="trainable")

    def fork(self, step: int, fade: bool = False) -> Fork:
        """The fork before optimizer step `step`; `fade` divides the variance by the step, as interpolation does."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(Noise)}
        if self.variance is None:
            given["variance"] = PAPER if fade or self.scope != "trainable" else FULL
        noise = Noise(**given)
        return Fork(noise=faded(noise, step) if fade else noise, **vars(subset(ForkSettings, self)))


def part(fraction: float, steps: int) -> int:
    """A fraction of all steps in whole steps, halves rounded up.

    >>> part(0.3, 1250), part(0.3, 5)
    (375, 2)
    """
    return math.floor(fraction * steps + 0.5 + 1e-9)


def check_fraction(name: str, value: float) -> None:
    """Raise SettingError unless 0 <= value <= 1."""
    if not 0 <= value <= 1:
        raise SettingError(f"{name} is a fraction of all steps, from 0 to 1, not {value}")
