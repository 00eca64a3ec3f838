"""What a runner is: it trains packs somewhere, some at a time, and gives back what came of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deni.study.execution.job import Job

if TYPE_CHECKING:
    from deni.study.execution.pack import Outcome


@dataclass(frozen=True)
class PackResult:
    """The outcome of a pack.

    Args:
        number: of the pack, as it was submitted.
        outcomes: one a cell; None where there is none.
        error: the traceback of what failed the whole pack.
        died: how the worker died, where it did: killed, out of memory, its machine gone.
    """

    number: int
    outcomes: list[Outcome] | None = None
    error: str = ""
    died: str = ""


class Runner(ABC):
    """Trains packs. The submitting process writes the store, a runner never does.

    Args:
        slots: packs at a time.
        threads: torch's threads of each worker.
        trunks: the folder for what packs share before their first fork; None for none.
        device: where a worker trains, see `deni.models.devices.find_device`; None for a GPU if it sees one.
    """

    def __init__(self, slots: int, threads: int, trunks: str | None = None, device: str | None = None) -> None:
        self.slots, self.threads, self.trunks, self.device = slots, threads, trunks, device

    @abstractmethod
    def submit(self, number: int, jobs: Sequence[Job]) -> None:
        """Begin a pack; at most `slots` at a time."""

    @abstractmethod
    def wait(self) -> PackResult:
        """Wait until a pack is done."""

    @abstractmethod
    def close(self) -> None:
        """Stop all workers at once."""
