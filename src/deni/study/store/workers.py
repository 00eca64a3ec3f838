"""Who works on a cell, and whether it still runs."""

from __future__ import annotations

import os
import platform
from typing import Literal

import psutil


def worker_name() -> str:
    """This process as machine, id and start time, since process ids are reused."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def worker_state(worker: str | None) -> Literal["here", "gone", "elsewhere"]:
    """Whether a worker still runs; unknown for other machines."""
    machine, pid, began = split_worker(worker)
    if machine != platform.node():
        return "elsewhere" if machine else "gone"
    try:
        return "here" if f"{psutil.Process(int(pid)).create_time():.2f}" == began else "gone"
    except psutil.NoSuchProcess:
        return "gone"


def split_worker(worker: str | None) -> tuple[str, str, str]:
    """Machine, number and start of `worker_name`; empty for nobody.

    >>> split_worker("node7:1234:1700000000.25")
    ('node7', '1234', '1700000000.25')
    """
    rest, _, began = (worker or "").rpartition(":")
    machine, _, pid = rest.rpartition(":")
    return machine, pid, began
