"""The process that is attached to a Ray cluster: it submits what it is sent, and sends back what came of it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from deni.errors import InputError
from deni.study.execution.job import Job
from deni.study.execution.runners.base import PackResult
from deni.study.execution.runners.processes import die_with_parent
from deni.study.execution.runners.work import work

LOOK = 2.0  # seconds between two looks whether to leave


@dataclass(frozen=True)
class Attached:
    """The cluster was reached.

    Args:
        head: where its head listens.
        lacks: what a worker asks for and no host has; empty where one has it.
    """

    head: str
    lacks: str


class Gone(Exception):
    """The cluster cannot be used any more; its text is what Ray says."""


def serve(
    pipe: Connection,
    address: str | None,
    slots: int,
    threads: int,
    gpus: float,
    trunks: str | None,
    device: str | None,
) -> None:
    """Attach to a cluster, or start one, and serve until None is sent.

    Sends first `Attached`, or an InputError. Takes `(number, jobs)` to begin a pack, and "wait", which is answered by
    the `PackResult` of the next pack that is done. What ends it early is sent, too: `Gone`, or a fault's traceback.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who submits
    threading.Thread(target=die_with_parent, daemon=True).start()
    _say_nothing()
    with suppress(EOFError, OSError):
        try:
            cluster = _Cluster(address, slots, threads, gpus)
            pipe.send(Attached(cluster.head, cluster.lacks()))
            while (message := pipe.recv()) is not None:
                if message == "wait":
                    if done := cluster.wait(pipe):
                        pipe.send(done)
                else:
                    number, jobs = message
                    cluster.submit(number, jobs, threads, trunks, device)
            cluster.leave()
        except (InputError, Gone) as error:
            pipe.send(error)
        except (EOFError, OSError):
            raise
        except Exception:
            pipe.send(RuntimeError(traceback.format_exc()))


def working(
    number: int, jobs: Sequence[Job], threads: int, trunks: str | None, device: str | None
) -> Iterator[str | PackResult]:
    """Train a pack on a host of the cluster: says first on which."""
    import ray

    yield ray.get_runtime_context().get_node_id()
    yield work(number, jobs, threads, trunks, device)


def _say_nothing() -> None:
    """Print nothing from here on: Ray prints what its hosts do in color, and its C++ stack where it ends a process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number in (1, 2):
        os.dup2(nowhere, number)


class _Cluster:
    """Ray, as far as it is used here."""

    def __init__(self, address: str | None, slots: int, threads: int, gpus: float) -> None:
        import ray

        self._ray = ray
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
        self.head: str = ray.get_runtime_context().gcs_address
        self._node = ray.get_runtime_context().get_node_id()
        self._needs = {"CPU": threads, "GPU": gpus}
        self._tells = not (address or "").startswith("ray://")  # Ray's client has no generators
        # Whoever submits decides whether a pack is tried again.
        self._task = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(working if self._tells else work)
        self._running: dict[Any, int] = {}
        self._hosts: dict[int, str] = {}  # where a pack is trained, once that is known

    def lacks(self) -> str:
        """What each task asks for and no host has; empty where one has it."""
        with self._reached():
            hosts = [host["Resources"] for host in self._ray.nodes() if host["Alive"]]
        asked = {name: number for name, number in self._needs.items() if number}
        if any(all(host.get(name, 0) >= number for name, number in asked.items()) for host in hosts):
            return ""
        return " and ".join(f"{number:g} {name}{'s' * (number != 1)}" for name, number in asked.items())

    def submit(self, number: int, jobs: Sequence[Job], threads: int, trunks: str | None, device: str | None) -> None:
        """Begin a pack."""
        with self._reached():
            self._running[self._task.remote(number, list(jobs), threads, trunks, device)] = number

    def wait(self, pipe: Connection) -> PackResult | None:
        """Wait until a pack is done; None where something is sent first."""
        looked = time.monotonic()
        while not pipe.poll():
            with self._reached():
                ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=LOOK)
                done = self._next(ready[0]) if ready else None
                if done is None and time.monotonic() - looked >= LOOK:
                    done, looked = self._lost(), time.monotonic()
            if done is not None:
                return done
        return None

    def _next(self, task: Any) -> PackResult | None:
        """What a task says next; None where that is not its result."""
        number = self._running[task]
        try:
            said = self._ray.get(next(task) if self._tells else task)
        except (
            self._ray.exceptions.WorkerCrashedError,
            self._ray.exceptions.OutOfMemoryError,
            self._ray.exceptions.NodeDiedError,
            self._ray.exceptions.ObjectLostError,
        ) as error:
            said = PackResult(number, died=f"the worker died ({type(error).__name__})")
        except self._ray.exceptions.RayTaskError as error:  # not of the training, which `work` catches
            said = PackResult(number, error=str(error))
        if isinstance(said, PackResult):
            del self._running[task]
            return said
        self._hosts[number] = said
        return None

    def _lost(self) -> PackResult | None:
        """A pack whose host is gone without a word: Ray itself would wait for it for up to seven minutes.

        Raises:
            Gone: the head does not count this host among its own; it would be asked in vain for what another one began.
        """
        alive = {host["NodeID"] for host in self._ray.nodes() if host["Alive"]}
        if self._node not in alive:
            raise Gone("its head does not know this host: it is a new head, or had given this host up")
        for task, number in self._running.items():
            if self._hosts.get(number, self._node) not in alive:
                del self._running[task]  # what it may say later is not asked for
                return PackResult(number, died="the worker died (its host is lost)")
        return None

    def leave(self) -> None:
        """Detach from the cluster; end one that was started here."""
        self._ray.shutdown()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what Ray raises without a cluster into `Gone`."""
        try:
            yield
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise Gone(f"{type(error).__name__}, {first}") from error
