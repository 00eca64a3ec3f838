"""Runs that are frozen because of a non-finite loss."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A run that was frozen because of a non-finite loss.

    Args:
        run: which run, counted from 0.
        step: the optimizer step, counted from 0.
        loss: NaN or infinite.
    """

    run: int
    step: int
    loss: float

    def __str__(self) -> str:
        return (
            f"run {self.run} has loss {self.loss} at step {self.step} and was frozen: "
            "likely the learning rate or the noise variance is too large, or fp16 overflowed (try bf16)"
        )


class Failures(list[Failure]):
    """The runs that were frozen, in the order in which they were.

    >>> failures = Failures()
    >>> for run, loss in enumerate([0.7, float("nan")]):
    ...     failures.note(run, 3, loss)
    >>> failures.runs, Failures.of(failures.state()).runs
    ({1}, {1})
    """

    @property
    def runs(self) -> set[int]:
        """Which runs are frozen."""
        return {failure.run for failure in self}

    def note(self, run: int, step: int, loss: float) -> None:
        """Freeze a run with a non-finite loss, and log it."""
        if not math.isfinite(loss) and run not in self.runs:
            self.append(Failure(run, step, loss))
            logger.warning(str(self[-1]))

    def share(self, runs: int, step: int, device: torch.device) -> None:
        """All processes freeze what one of them froze, or they would train different members from here on."""
        frozen = torch.tensor([float(run in self.runs) for run in range(runs)], device=device)
        torch.distributed.all_reduce(frozen, torch.distributed.ReduceOp.MAX)
        for run in frozen.nonzero().flatten().tolist():
            if run not in self.runs:
                self.append(Failure(run, step, math.nan))

    def state(self) -> list[list[Any]]:
        """As JSON values; `Failures.of` reads them."""
        return [[failure.run, failure.step, str(failure.loss)] for failure in self]

    @classmethod
    def of(cls, state: Iterable[Any]) -> Failures:
        """What `state` gave."""
        return cls(Failure(run, step, float(loss)) for run, step, loss in state)
