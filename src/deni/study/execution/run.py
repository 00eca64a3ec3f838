"""`deni study run`: which runner, how many workers, packs of which size."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from deni.errors import InputError, short
from deni.models.devices import find_device
from deni.outputs import check_name
from deni.study.execution.calibrate import Calibration
from deni.study.execution.driver import News, Pack, packs_of, run_packs
from deni.study.execution.job import Job
from deni.study.execution.progress import Progress
from deni.study.execution.runners import OnRay, Processes, Runner, Serial
from deni.study.plan import Study
from deni.study.store.database import Store
from deni.study.tracking import CellLog

RUNNERS = ("serial", "processes", "ray")
REPORTS = ("none", "mlflow")
EVERY = 20  # seconds between two looks at which cells are done


class Run:
    """A study that is to be trained, and how.

    Args:
        study: what to train.
        left: its cells that are neither done nor failed.
        runner: `serial`, `processes` or `ray`.
        device: where workers train, see `deni.models.devices.find_device`; `cuda` and None take all GPUs in turn.
        workers: packs at a time; None for one a GPU, or one on a CPU.
        pack: cells in one population: a number, or `auto`, which measures a few steps.
        threads: of each worker; None for the cores divided by the workers.
        address, gpus_per_worker: of Ray.
        trunks: a folder where packs leave what they share before their first fork for each other; None for none.
        minutes: after which no pack is begun any more, counted from the first one; None for no end.
        report_to: `mlflow`: each cell that is done becomes a run there, see `deni.study.tracking`; or `none`.
        progress: whether to show how far it is.

    Raises:
        InputError: an option that does not fit.
    """

    def __init__(
        self,
        study: Study,
        left: Sequence[Job],
        *,
        device: str | None = None,
        runner: str = "serial",
        workers: int | None = None,
        pack: int | str = "auto",
        threads: int | None = None,
        address: str | None = None,
        gpus_per_worker: float | None = None,
        trunks: str | None = None,
        minutes: float | None = None,
        report_to: str = "none",
        progress: bool = True,
    ) -> None:
        if report_to not in REPORTS:
            raise InputError(f"unknown --report-to {report_to!r}: choose {' or '.join(REPORTS)}")
        self.log = CellLog(study.name) if report_to == "mlflow" else None
        self._reported = time.monotonic()
        if runner != "ray" and (address is not None or gpus_per_worker is not None):
            raise InputError("--address and --gpus-per-worker need --runner ray: give it, or omit them")
        if runner not in RUNNERS:
            raise InputError(f"unknown runner {runner!r}: choose {', '.join(RUNNERS)}")
        if runner == "serial" and workers not in (None, 1):
            raise InputError(f"--runner serial has one worker, not {workers}: choose processes or ray")
        self.study, self.left, self.runner, self.progress = study, list(left), runner, progress
        if runner == "ray" and device not in (None, "auto", "cpu", "cuda"):
            raise InputError(f"Ray chooses the GPU of each worker: --device is auto, cpu or cuda, not {device}")
        elsewhere = runner == "ray" and device == "cuda"  # this machine may have no GPU
        here = find_device(None if elsewhere else device)
        self.device, self.gpus = device, _gpus(here, device)
        self.workers = workers or (max(len(self.gpus), 1) if runner != "serial" else 1)
        self.threads = threads or max(1, _cores() // self.workers)
        self.address = address
        default = 1.0 if self.gpus or elsewhere else 0.0
        self.gpus_per_worker = default if gpus_per_worker is None else gpus_per_worker
        self.trunks = _folder(trunks) if trunks else None
        self.minutes = math.inf if minutes is None else minutes
        self._pack = _number(pack)
        self._calibration = Calibration(study.library, self.threads, here)

    def estimate(self) -> str:
        """How long it will take, from a few steps of each model, tuning and dataset."""
        if not self.left:
            return "Nothing is left to train."
        packs = packs_of(self.left, self._size)
        seconds = self._seconds(packs)
        sizes = sorted({len(pack.jobs) for pack in packs})
        cells = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        cells += " cell" if sizes == [1] else " cells"
        workers = f"{self.workers} worker" + "s" * (self.workers > 1)
        many = f"{len(packs)} pack" + "s" * (len(packs) > 1)
        return f"About {_duration(seconds)} with {workers} of {self.threads} threads, in {many} of {cells}."

    def seconds(self) -> float:
        """What `estimate` says, as a number; baselines do not count."""
        return self._seconds(packs_of(self.left, self._size))

    def _seconds(self, packs: Sequence[Pack]) -> float:
        training = sum(self._calibration.seconds(pack.jobs, len(pack.jobs)) for pack in packs) / self.workers
        return training + (0 if self._pack else self._calibration.spent)  # which sizes packs have is measured again

    def into(self, store: Store) -> int:
        """Train what is left; the number of cells that failed."""
        store.release_stale()
        store.add(self.study.jobs, self.study.name)
        have = store.statuses(each.key for each in self.study.jobs)
        left = [each for each in self.left if have[each.key] == "waiting"]
        progress = Progress(left, sum(status == "done" for status in have.values()), self.progress)

        def tell(news: News) -> None:
            progress.tell(news)
            if news.what == "done" and time.monotonic() - self._reported > EVERY:
                self._report(store)

        try:
            if left:
                packs, runner = packs_of(left, self._size), self._started()
                end = time.monotonic() + 60 * self.minutes
                run_packs(packs, store, runner, tell, lambda: time.monotonic() >= end)
        finally:
            progress.close()
            self._report(store)
        have = store.statuses(each.key for each in self.study.jobs)
        return sum(status == "failed" for status in have.values())

    def _report(self, store: Store) -> None:
        """Log the cells of the study that are done, where that was asked."""
        if self.log is not None:
            keys = {each.key for each in self.study.jobs}
            self.log.log(row for row in store.results("done") if row.key in keys)
            self._reported = time.monotonic()

    def _size(self, jobs: Sequence[Job]) -> int:
        return self._pack or self._calibration.size(jobs)

    def _started(self) -> Runner:
        if self.runner == "serial":
            return Serial(self.threads, self.trunks, self.device)
        if self.runner == "processes":
            device = None if self.gpus else self.device  # a process sees its own GPU alone
            return Processes(self.workers, self.threads, self.gpus, self.trunks, device)
        return OnRay(self.workers, self.threads, self.address, self.gpus_per_worker, self.trunks, self.device)


def _gpus(here: torch.device, asked: str | None) -> list[int]:
    """Numbers of the GPUs that workers take in turn: all, unless one was asked for by its number."""
    if here.type != "cuda":
        return []
    one = here.index is not None and asked == str(here)
    return [here.index] if one else list(range(torch.cuda.device_count()))


def _folder(trunks: str) -> str:
    """The whole path, since workers may be elsewhere; made if it is not there."""
    check_name(trunks)
    try:
        Path(trunks).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--trunks {trunks} cannot be made: {error.strerror}; name a folder") from None
    return str(Path(trunks).resolve())


def _duration(seconds: float) -> str:
    """A time to read.

    >>> _duration(7.4), _duration(290), _duration(9000)
    ('7 s', '5 min', '2 h 30 min')
    """
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes > 3 else f"{max(round(seconds), 1)} s"


def _number(pack: int | str) -> int | None:
    if pack == "auto":
        return None
    if not re.fullmatch("[0-9]{1,9}", str(pack)) or int(pack) < 1:
        raise InputError(f"--pack is a number of cells, or auto, not {short(pack)}")
    return int(pack)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
