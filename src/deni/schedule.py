"""Which optimizer steps train how many members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from deni.errors import SettingError
from deni.noise import NO_NOISE, Noise
from deni.settings import check_choices, setting


@dataclass(frozen=True, kw_only=True)
class ForkSettings:
    """How copies are made and merged: the settings that a fork has in common with the strategies that fork.

    The choices that the paper leaves open are the "C" points of docs/original_code.md.

    Args:
        fork_optimizer: the optimizer state of a copy: its parent's (`inherit`) or none (`fresh`).
        fork_rate: the learning rate of a copy: its parent's (`schedule`), the base rate (`constant`), or from the base
            rate linearly to 0 within the phase (`restart`).
        merge_optimizer: experimental, `mean` gained nothing in our study: the optimizer state after a merge: the
            `parent`'s or the `mean` over the members.
        merge_lora: experimental, `product` gained nothing in our study: what is averaged of LoRA at a merge: the
            `factors` one by one, or their `product`, truncated to the rank by a singular value decomposition.
        antithetic: experimental, gained nothing in our study: the copies' noises come in pairs of eps and -eps, so that
            with an odd number of members their mean at the fork is the parent; with an even one the last copy has noise
            of its own.
        member_order: experimental, `own` gained nothing in our study: the order in which members see the texts: one for
            all (`shared`), or for each copy its `own`.
    """

    fork_optimizer: Literal["inherit", "fresh"] = "inherit"
    fork_rate: Literal["schedule", "constant", "restart"] = "schedule"
    merge_optimizer: Literal["parent", "mean"] = "parent"
    merge_lora: Literal["factors", "product"] = "factors"
    antithetic: bool = setting(False, neutral=False)
    member_order: Literal["shared", "own"] = setting("shared", neutral="shared")

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True)
class Fork(ForkSettings):
    """How the members of a phase are made from one and become one again.

    Args:
        noise: what tells the copies from their parent; none by default.
    """

    noise: Noise = NO_NOISE


@dataclass(frozen=True)
class Phase:
    """A stretch of optimizer steps during which the number of members is constant.

    Args:
        start: first step, counted from 0.
        stop: the step after the last one.
        members: how many members each run has, at least 1.
        fork: how the members are made at `start`, and merged at `stop`.
        merge: whether the members become one again at `stop`; if not, they vote at the end.

    >>> str(Phase(375, 500, members=10))
    '10x125'
    """

    start: int
    stop: int
    members: int = 1
    fork: Fork = field(default=Fork())
    merge: bool = True

    def __post_init__(self) -> None:
        if self.members < 1:
            raise SettingError(f"members must be at least 1, not {self.members}")
        if self.start < 0 or self.stop <= self.start:
            raise SettingError(f"a phase needs at least one step, not steps {self.start} to {self.stop}")

    @property
    def steps(self) -> int:
        """Length in optimizer steps."""
        return self.stop - self.start

    @property
    def cost(self) -> int:
        """Member-steps of one run."""
        return self.steps * self.members

    def __str__(self) -> str:
        return f"{self.members}x{self.steps}"


@dataclass(frozen=True)
class Schedule(Sequence[Phase]):
    """All phases of a run; they tile the steps without a gap.

    Args:
        phases: in order; the first begins at step 0, each begins where the one before stops. None where nothing is
            trained.
        runs: how many independent runs make one model (10 for an ensemble of ten, else 1).
        passes: forward and backward passes of a member in an optimizer step.
    """

    phases: tuple[Phase, ...]
    runs: int = 1
    passes: int = 1

    @classmethod
    def of(cls, forked: Iterable[Phase], steps: int, runs: int = 1, passes: int = 1) -> Schedule:
        """Fill the steps between the forked phases with phases of one member.

        Args:
            forked: the phases with more than one member, in any order.
            steps: optimizer steps of the whole run, at least 1.
            runs: independent runs that make one model.
            passes: of a member in an optimizer step.

        Raises:
            SettingError: phases that overlap, or that do not fit into `steps`.

        >>> print(Schedule.of([Phase(2, 4, members=3)], steps=5))
        1x2 3x2 1x1
        """
        if steps < 1:
            raise SettingError(f"a run needs at least one optimizer step, not {steps}")
        tiles: list[Phase] = []
        at = 0
        for phase in sorted(forked, key=lambda phase: phase.start):
            if phase.start < at:
                raise SettingError(f"phase {phase} begins at step {phase.start}, before step {at}: train longer")
            if phase.stop > steps:
                raise SettingError(f"phase {phase} ends at step {phase.stop} of {steps}: train longer")
            if not phase.merge and phase.stop != steps:
                raise SettingError(f"phase {phase} ends at step {phase.stop} of {steps} and does not merge")
            if phase.start > at:
                tiles.append(Phase(at, phase.start))
            tiles.append(phase)
            at = phase.stop
        if at < steps:
            tiles.append(Phase(at, steps))
        return cls(tuple(tiles), runs, passes)

    def __len__(self) -> int:
        return len(self.phases)

    def __iter__(self) -> Iterator[Phase]:
        return iter(self.phases)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.phases[index]

    @property
    def steps(self) -> int:
        """T: optimizer steps of the whole run."""
        return self.phases[-1].stop if self.phases else 0

    @property
    def cost(self) -> int:
        """Member-steps that one model costs; a step with two passes counts twice."""
        return self.runs * self.passes * sum(phase.cost for phase in self.phases)

    @property
    def peak(self) -> int:
        """The largest number of members that are alive at the same time, over all runs of one model."""
        return self.runs * max((phase.members for phase in self.phases), default=0)

    def forked_before(self, step: int) -> bool:
        """Whether anything has forked when `step` steps are done.

        >>> schedule = Schedule.of([Phase(2, 4, members=3)], steps=5)
        >>> schedule.forked_before(2), schedule.forked_before(3)
        (False, True)
        """
        return any(phase.members > 1 and phase.start < step for phase in self.phases)

    def at(self, step: int) -> Phase:
        """The phase that trains at `step`, counted from 0; the last one for later steps.

        Without any step it is a phase of one member, as which a run begins.
        """
        last = self.phases[-1] if self.phases else Phase(0, 1)
        return next((phase for phase in self.phases if step < phase.stop), last)

    def __str__(self) -> str:
        return " ".join(f"{self.runs * phase.members}x{phase.steps}" for phase in self.phases)
