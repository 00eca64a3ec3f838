"""Runs that failed: frozen because of a non-finite loss, or not finite after the last step."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A run that was frozen because of a non-finite loss, or that is not finite after the last step.

    Args:
        run: which run, counted from 0.
        step: the optimizer step, counted from 0.
        loss: NaN or infinite; None where weights or predictions are, after the last step.
    """

    run: int
    step: int
    loss: float | None

    def __str__(self) -> str:
        what = f"loss {self.loss} at step {self.step} and was frozen"
        if self.loss is None:
            what = f"non-finite weights or predictions after step {self.step}, the last"
        return (
            f"run {self.run} has {what}: likely the learning rate, the weight decay or the noise variance is too "
            "large, or fp16 overflowed (try bf16)"
        )


class Failures(list[Failure]):
    """The runs that failed, in the order in which they did.

    >>> failures = Failures()
    >>> for run, loss in enumerate([0.7, float("nan")]):
    ...     failures.note(run, 3, loss)
    >>> failures.runs, Failures.of(failures.state()).runs
    ({1}, {1})
    """

    @property
    def runs(self) -> set[int]:
        """Which runs failed: they are frozen."""
        return {failure.run for failure in self}

    def note(self, run: int, step: int, loss: float) -> None:
        """Freeze a run with a non-finite loss, and log it."""
        if not math.isfinite(loss) and run not in self.runs:
            self.append(Failure(run, step, loss))
            logger.warning(str(self[-1]))

    def note_members(self, finite: Sequence[bool], runs: int, step: int) -> None:
        """After the last step: note runs of which a member is not finite, and log them.

        Args:
            finite: of each member, run by run.
            runs: how many there are.
        """
        for run in range(runs):
            members = finite[run * len(finite) // runs : (run + 1) * len(finite) // runs]
            if not all(members) and run not in self.runs:
                self.append(Failure(run, step, None))
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
        return [[failure.run, failure.step, failure.loss and str(failure.loss)] for failure in self]

    @classmethod
    def of(cls, state: Iterable[Any]) -> Failures:
        """What `state` gave."""
        return cls(Failure(run, step, loss and float(loss)) for run, step, loss in state)


def finite_members(values: Mapping[str, Tensor]) -> list[bool]:
    """Whether all weights of a member are finite, for each: name -> `(M, *shape)`.

    >>> finite_members({"weight": torch.tensor([[1.0, 2.0], [0.0, torch.inf]])})
    [True, False]
    """
    size = len(next(iter(values.values()), ()))
    finite = torch.ones(size, dtype=torch.bool)
    for value in values.values():
        # A sum is not finite where a value is not, and seldom otherwise; it needs no memory.
        finite &= value.detach().reshape(size, -1).sum(1).isfinite().cpu()
    return [
        well or all(bool(value[member].isfinite().all()) for value in values.values())
        for member, well in enumerate(finite.tolist())
    ]
