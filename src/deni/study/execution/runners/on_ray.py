"""Packs on a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deni.errors import InputError
from deni.study.execution.job import Job
from deni.study.execution.runners.base import PackResult, Runner
from deni.study.execution.runners.work import work

LOOK = 2.0  # seconds between two looks whether the head is there
OWN_PATIENCE = 5.0  # seconds without the head that this process started, which nobody starts again
PATIENCE = 30.0  # of a head that somebody may start again; after 60 Ray would kill this process


class OnRay(Runner):
    """Trains as tasks of Ray; one whose worker or machine dies is given back as died.

    Args:
        slots: tasks at a time.
        threads: CPUs of each.
        address: of the cluster; None for one on this machine that ends with the study.
        gpus: of each task; a fraction shares a GPU.

    Raises:
        InputError: the package `ray` is missing, no such cluster exists, or, later, its head is gone.
    """

    def __init__(
        self,
        slots: int,
        threads: int,
        address: str | None = None,
        gpus: float = 0,
        trunks: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(slots, threads, trunks, device)
        try:
            import ray
        except ImportError as error:
            raise InputError('the runner ray needs the package ray: pip install "deni[ray]"') from error
        self._ray = ray
        if address and ":" in address and not _answers(address):  # Ray itself would try for a quarter of an hour
            raise InputError(f"no Ray cluster at {address}: nothing answers there; check the address")
        env_vars = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        env_vars |= {
            name: os.environ[name] for name in ("HF_HUB_OFFLINE", "DENI_DATA", "PYTHONPATH") if name in os.environ
        }
        here: dict[str, Any] = {"num_cpus": max(slots * threads, os.cpu_count() or 1), "include_dashboard": False}
        try:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            # Without an address Ray would take any cluster that it finds on this machine.
            ray.init(address or "local", runtime_env={"env_vars": env_vars}, **quiet, **({} if address else here))
        except Exception as error:  # Ray raises what comes, plain `Exception` too
            where = f"no Ray cluster at {address}" if address else "Ray does not start"
            raise InputError(f"{where}: {str(error).splitlines()[0]}") from error
        self._head = address if address and ":" in address else ray.get_runtime_context().gcs_address
        self._patience = PATIENCE if address else OWN_PATIENCE
        self._answered = time.monotonic()
        # Whoever submits decides whether a pack is tried again.
        self._task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(work)
        self._running: dict[Any, int] = {}

    def submit(self, number: int, jobs: Sequence[Job]) -> None:
        self._look()
        with self._attached():
            self._running[self._task.remote(number, list(jobs), self.threads, self.trunks, self.device)] = number

    def wait(self) -> PackResult:
        ready: list[Any] = []
        while not ready:
            self._look()
            with self._attached():
                ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=LOOK)
        number = self._running.pop(ready[0])
        with self._attached():
            try:
                return self._ray.get(ready[0])
            except (
                self._ray.exceptions.WorkerCrashedError,
                self._ray.exceptions.OutOfMemoryError,
                self._ray.exceptions.NodeDiedError,
                self._ray.exceptions.ObjectLostError,
            ) as error:
                done = PackResult(number, died=f"the worker died ({type(error).__name__})")
            except self._ray.exceptions.RayTaskError as error:  # not of the training, which `work` catches
                done = PackResult(number, error=str(error))
        if not _answers(self._head):  # then the failure is not the pack's
            raise self._gone(done.died or "its head does not answer")
        return done

    def close(self) -> None:
        self._ray.shutdown()

    def _look(self) -> None:
        """Raise where the head has been away for too long."""
        if _answers(self._head):
            self._answered = time.monotonic()
        elif time.monotonic() - self._answered >= self._patience:
            raise self._gone(f"its head has not answered for {self._patience:.0f} seconds")

    @contextmanager
    def _attached(self) -> Iterator[None]:
        """Turn what Ray raises without a cluster into one line."""
        try:
            yield
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise self._gone(f"{type(error).__name__}, {first}") from error

    def _gone(self, why: str) -> InputError:
        return InputError(
            f"the Ray cluster at {self._head} is gone ({why}): finished cells are safe; "
            "give the same command with a cluster that runs for the others"
        )


def _answers(address: str) -> bool:
    """Whether something listens at `host:port` or `ray://host:port`."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK).close()
    except (OSError, ValueError):
        return False
    return True
