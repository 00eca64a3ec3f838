"""Packs on a Ray cluster."""

from __future__ import annotations

import importlib.util
import multiprocessing
import socket
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil

from deni.errors import InputError, InputWarning
from deni.study.execution.job import Job
from deni.study.execution.runners.base import PackResult, Runner
from deni.study.execution.runners.ray_attached import Attached, Gone, serve

SPAWN = multiprocessing.get_context("spawn")
LOOK = 2.0  # seconds between two looks whether the head is there
OWN_PATIENCE = 5.0  # seconds without the head that this process started, which nobody starts again
PATIENCE = 30.0  # of a head that somebody may start again, or that a cable leads to
GOODBYE = 5.0  # seconds to leave a cluster; where the head's host is lost, Ray would take minutes


class OnRay(Runner):
    """Trains as tasks of Ray; one whose worker or machine dies is given back as died.

    Ray itself runs in a process of its own, see `deni.study.execution.runners.ray_attached`: where the head is lost,
    Ray ends the process that is attached to it, or never lets it go.

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
        if importlib.util.find_spec("ray") is None:
            raise InputError('the runner ray needs the package ray: pip install "deni[ray]"')
        if address and ":" in address and not _answers(address):  # Ray itself would try for a quarter of an hour
            raise InputError(f"no Ray cluster at {address}: nothing answers there; check the address")
        self._head = address if address and ":" in address else ""
        self._patience = PATIENCE if address else OWN_PATIENCE
        self._answered = time.monotonic()
        self._pipe, theirs = SPAWN.Pipe()
        arguments = (theirs, address, slots, threads, gpus, trunks, device)
        self._process: Any = SPAWN.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        try:
            attached = self._received()
        except BaseException:
            self.close()
            raise
        assert isinstance(attached, Attached)
        self._head = self._head or attached.head
        if attached.lacks:
            warnings.warn(
                f"no host of the Ray cluster has {attached.lacks}, which each worker asks for: packs wait until such "
                "a host joins; set --threads and --gpus-per-worker to what the hosts have",
                InputWarning,
                stacklevel=2,
            )

    def submit(self, number: int, jobs: Sequence[Job]) -> None:
        self._look()
        with suppress(OSError):  # it has died meanwhile: `wait` reports it
            self._pipe.send((number, list(jobs)))

    def wait(self) -> PackResult:
        with suppress(OSError):
            self._pipe.send("wait")
        done = self._received()
        assert isinstance(done, PackResult)
        while (done.died or done.error) and not self._look():  # then the failure may not be the pack's
            time.sleep(LOOK / 10)
        return done

    def close(self) -> None:
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(GOODBYE)
        if self._process.is_alive():
            below = _below(self._process.pid)  # of a cluster that it started
            self._process.kill()
            for each in below:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            self._process.join()
        self._pipe.close()

    def _received(self) -> Any:
        """The next that the attached process says; raises what ended it."""
        while not self._pipe.poll(LOOK):
            self._look()
        try:
            received = self._pipe.recv()
        except (EOFError, OSError):
            raise self._gone("Ray has ended the process that was attached to it") from None
        if isinstance(received, Gone):
            raise self._gone(str(received))
        if isinstance(received, Exception):
            raise received
        return received

    def _look(self) -> bool:
        """Whether the head answers; raises where it has been away for too long."""
        if not self._head or _answers(self._head):
            self._answered = time.monotonic()
            return True
        if time.monotonic() - self._answered >= self._patience:
            raise self._gone(f"its head has not answered for {self._patience:.0f} seconds")
        return False

    def _gone(self, why: str) -> InputError:
        return InputError(
            f"the Ray cluster at {self._head} is gone ({why}): finished cells are safe; "
            "give the same command with a cluster that runs for the others"
        )


def _below(pid: int) -> list[psutil.Process]:
    """The processes that a process started, and those that they started."""
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def _answers(address: str) -> bool:
    """Whether something listens at `host:port` or `ray://host:port`."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK).close()
    except (OSError, ValueError):
        return False
    return True
