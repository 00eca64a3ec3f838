"""One pack after another, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from deni.study.execution.job import Job
from deni.study.execution.runners.base import PackResult, Runner
from deni.study.execution.runners.work import work
from deni.study.library import Library


class Serial(Runner):
    """Trains in this process."""

    def __init__(self, threads: int, trunks: str | None = None, device: str | None = None) -> None:
        super().__init__(1, threads, trunks, device)
        self._given: tuple[int, Sequence[Job]] | None = None
        self._library = Library()  # the files of a later study in this process may hold other texts

    def submit(self, number: int, jobs: Sequence[Job]) -> None:
        self._given = number, jobs

    def wait(self) -> PackResult:
        assert self._given is not None
        (number, jobs), self._given = self._given, None
        return work(number, jobs, self.threads, self.trunks, self.device, self._library)

    def close(self) -> None:
        pass
