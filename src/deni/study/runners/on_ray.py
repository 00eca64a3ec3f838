"""Packs on a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from deni.errors import InputError
from deni.study.cell import Cell
from deni.study.runners.base import Done, Runner
from deni.study.runners.work import work


class OnRay(Runner):
    """Trains as tasks of Ray; one whose worker or machine dies is given back as died.

    Args:
        slots: tasks at a time.
        threads: CPUs of each.
        address: of the cluster; None for one on this machine that ends with the study.
        gpus: of each task; a fraction shares a GPU.

    Raises:
        InputError: the package `ray` is missing, or there is no such cluster.
    """

    def __init__(self, slots: int, threads: int, address: str | None = None, gpus: float = 0) -> None:
        super().__init__(slots, threads)
        try:
            import ray
        except ImportError as error:
            raise InputError('the runner ray needs the package ray: pip install "deni[ray]"') from error
        self._ray = ray
        own = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        own |= {name: os.environ[name] for name in ("HF_HUB_OFFLINE", "DENI_DATA", "PYTHONPATH") if name in os.environ}
        here: dict[str, Any] = {} if address else {"num_cpus": max(slots * threads, os.cpu_count() or 1)}
        try:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            ray.init(address=address, runtime_env={"env_vars": own}, **quiet, **here)
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = f"no Ray cluster at {address}" if address else "Ray does not start"
            raise InputError(f"{where}: {str(error).splitlines()[0]}") from error
        # Whoever submits decides whether a pack is tried again.
        self._task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(work)
        self._running: dict[Any, int] = {}

    def submit(self, number: int, cells: Sequence[Cell]) -> None:
        self._running[self._task.remote(number, list(cells), self.threads)] = number

    def wait(self) -> Done:
        (ready,), _ = self._ray.wait(list(self._running), num_returns=1)
        number = self._running.pop(ready)
        try:
            return self._ray.get(ready)
        except (
            self._ray.exceptions.WorkerCrashedError,
            self._ray.exceptions.OutOfMemoryError,
            self._ray.exceptions.NodeDiedError,
            self._ray.exceptions.ObjectLostError,
        ) as error:
            return Done(number, died=f"the worker died ({type(error).__name__})")
        except self._ray.exceptions.RayTaskError as error:  # not of the training, which `work` catches
            return Done(number, error=str(error))

    def close(self) -> None:
        self._ray.shutdown()
