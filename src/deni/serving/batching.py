"""Requests that wait at the same time are predicted together, by one thread that owns the model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

Predictions = list[dict[str, Any]]


class BusyError(RuntimeError):
    """Too many texts wait."""


class StoppedError(RuntimeError):
    """The server takes no more texts."""


@dataclass
class _Job:
    texts: list[Any]
    future: Future[Predictions] = field(default_factory=Future)


class Batcher:
    """One thread that predicts the texts of requests: all that came while it computed go into its next batch.

    A request alone waits for no other one, and is never split.

    Args:
        predict: texts -> a prediction of each.
        check: raises where the texts of a request cannot be predicted; then no other request is affected.
        batch_size: texts from which on a batch takes no further request.
        max_waiting: texts that may wait.
        observe: called with the number of texts of each batch.
    """

    def __init__(
        self,
        predict: Callable[[list[Any]], Predictions],
        check: Callable[[list[Any]], None],
        batch_size: int,
        max_waiting: int,
        observe: Callable[[int], None] = lambda texts: None,
    ) -> None:
        self._predict, self._check, self._observe = predict, check, observe
        self._batch_size, self._max_waiting = batch_size, max_waiting
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="deni-batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many texts wait for the model."""
        with self._changed:
            return self._count()

    def submit(self, texts: list[Any]) -> Future[Predictions]:
        """The predictions of texts, as soon as they are there.

        Raises:
            BusyError: too many texts wait.
            StoppedError: after `stop`.
        """
        job = _Job(texts)
        with self._changed:
            if self._stopped:
                raise StoppedError
            if self._count() + len(texts) > self._max_waiting:
                raise BusyError
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def stop(self) -> None:
        """Take no more texts, and return when those that wait are predicted."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _count(self) -> int:
        return sum(len(job.texts) for job in self._jobs)

    def _work(self) -> None:
        while jobs := self._next():
            self._run([job for job in jobs if self._is_fine(job)])

    def _next(self) -> list[_Job]:
        """The requests of the next batch; none after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopped)
            taken: list[_Job] = []
            texts = 0
            while self._jobs and (not taken or texts + len(self._jobs[0].texts) <= self._batch_size):
                taken.append(self._jobs.popleft())
                texts += len(taken[-1].texts)
            return taken

    def _is_fine(self, job: _Job) -> bool:
        if not job.future.set_running_or_notify_cancel():
            return False
        try:
            self._check(job.texts)
        except Exception as error:
            job.future.set_exception(error)
            return False
        return True

    def _run(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        texts = [text for job in jobs for text in job.texts]
        self._observe(len(texts))
        try:
            predictions = self._predict(texts)
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:  # what one of them causes is not the fault of the others
                self._run([job])
            return
        end = 0
        for job in jobs:
            job.future.set_result(predictions[end : end + len(job.texts)])
            end += len(job.texts)
