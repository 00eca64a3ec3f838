"""Packs side by side in processes of this machine; on GPUs one or more processes for each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from deni.study.execution.job import Job
from deni.study.execution.runners.base import PackResult, Runner
from deni.study.execution.runners.work import work

SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with torch's threads hangs


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    number: int | None = None  # of the pack that it trains


class Processes(Runner):
    """Trains in its own processes; one that dies is replaced, and its pack is returned as died.

    Args:
        slots: processes.
        threads: of each.
        gpus: numbers of the GPUs that the processes take in turn, each process seeing its own alone; none for the CPU.
    """

    def __init__(
        self,
        slots: int,
        threads: int,
        gpus: Sequence[int] = (),
        trunks: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(slots, threads, trunks, device)
        self._gpus = [_visible(each) for each in gpus]
        self._workers = [self._started(at) for at in range(slots)]

    def submit(self, number: int, jobs: Sequence[Job]) -> None:
        worker = next(each for each in self._workers if each.number is None)
        worker.number = number
        with suppress(OSError):  # it has died meanwhile: `wait` reports it
            worker.pipe.send((number, list(jobs)))

    def wait(self) -> PackResult:
        while True:
            busy = [each for each in self._workers if each.number is not None]
            ready = wait([*(each.pipe for each in busy), *(each.process.sentinel for each in busy)])
            for worker in busy:
                if worker.pipe in ready:
                    try:
                        done: PackResult = worker.pipe.recv()
                    except (EOFError, OSError):
                        return self._replace(worker)
                    worker.number = None
                    return done
                if worker.process.sentinel in ready:
                    return self._replace(worker)

    def close(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()

    def _replace(self, worker: _Worker) -> PackResult:
        worker.process.join()
        worker.pipe.close()
        number, code = worker.number, worker.process.exitcode
        assert number is not None
        at = self._workers.index(worker)
        self._workers[at] = self._started(at)
        killed = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        return PackResult(number, died=f"the worker died ({killed})")

    def _started(self, at: int) -> _Worker:
        ours, theirs = SPAWN.Pipe()
        env_vars = {"OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
        if self._gpus:
            env_vars["CUDA_VISIBLE_DEVICES"] = self._gpus[at % len(self._gpus)]
        process = SPAWN.Process(target=_serve, args=(theirs, self.threads, self.trunks, self.device), daemon=True)
        before = {name: os.environ.get(name) for name in env_vars}
        os.environ.update(env_vars)  # a spawned process takes it over
        try:
            process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()
        return _Worker(process, ours)


def _visible(gpu: int) -> str:
    """What CUDA_VISIBLE_DEVICES calls the GPU that has this number among those that this process sees."""
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[gpu] if gpu < len(named) else str(gpu)


def _serve(pipe: Connection, threads: int, trunks: str | None, device: str | None) -> None:
    """Train what comes through the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who submits
    threading.Thread(target=die_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            number, jobs = pipe.recv()
            pipe.send(work(number, jobs, threads, trunks, device))


def die_with_parent() -> None:
    """End this worker with its parent process, since nobody would read its results."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
