"""Estimates the remaining time of a schedule from the steps so far."""

from __future__ import annotations

from collections import Counter

from deni.schedule import Schedule


class Pace:
    """Seconds of a step by the number of members that it trains.

    A number that has not trained yet is taken to cost as many times more as it has members than the nearest that has:
    the time left counts member-steps, until steps of every number of members are measured.

    Args:
        schedule: of the run.

    >>> from deni.schedule import Phase
    >>> pace = Pace(Schedule.of([Phase(4, 6, members=10)], steps=10))  # 1x4 10x2 1x4
    >>> pace.note(0, 0.5)
    >>> pace.seconds_left(1)  # (3 + 2 * 10 + 4) member-steps
    13.5
    >>> pace.note(4, 2.0)  # ten members in one pass take less than ten times as long
    >>> pace.seconds_left(5)
    4.0
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._seconds: Counter[int] = Counter()
        self._steps: Counter[int] = Counter()

    def note(self, step: int, seconds: float) -> None:
        """Take in how long a step took, counted from 0."""
        members = self.schedule.at(step).members
        self._seconds[members] += seconds  # type: ignore[assignment]
        self._steps[members] += 1

    def seconds_left(self, done: int) -> float | None:
        """What the steps after the first `done` take; None before any was measured."""
        if not self._steps:
            return None
        left = ((phase.members, phase.stop - max(phase.start, done)) for phase in self.schedule if phase.stop > done)
        return sum(steps * self._of_step(members) for members, steps in left)

    def member_steps(self, done: int) -> int:
        """What the first `done` steps cost."""
        phases = (phase for phase in self.schedule if phase.start < done)
        each = self.schedule.runs * self.schedule.passes
        return each * sum(phase.members * (min(done, phase.stop) - phase.start) for phase in phases)

    def _of_step(self, members: int) -> float:
        nearest = min(self._steps, key=lambda known: (abs(known - members), known))
        return self._seconds[nearest] / self._steps[nearest] * members / nearest
