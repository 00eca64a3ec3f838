"""Trains jobs into a store: a single process submits packs and writes results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from deni.errors import InputError
from deni.study.execution.job import Job
from deni.study.execution.pack import Outcome
from deni.study.execution.runners import PackResult, Runner
from deni.study.store.database import Store

ATTEMPTS = 3  # of a pack whose worker dies


@dataclass
class Pack:
    """Jobs that are trained together.

    Args:
        deaths: how many workers died of it.
        claimed: whether its cells are this driver's.
    """

    jobs: Sequence[Job]
    deaths: int = 0
    claimed: bool = False


@dataclass(frozen=True)
class News:
    """Progress messages of the driver.

    Args:
        what: begun, done, failed, or again: it died or raised, and its cells are tried again.
        jobs: which.
        why: the last line of the traceback, or how the worker died.
    """

    what: Literal["begun", "done", "failed", "again"]
    jobs: Sequence[Job]
    why: str = ""


def packs_of(jobs: Sequence[Job], size: Callable[[Sequence[Job]], int]) -> list[Pack]:
    """Cells cut into packs of those that may train in one population.

    Args:
        size: of such cells, how many at a time.
    """
    together: dict[str, list[Job]] = {}
    for job in jobs:
        together.setdefault(job.pack, []).append(job)
    packs = []
    for alike in together.values():
        step = max(1, size(alike))
        packs += [Pack(alike[at : at + step]) for at in range(0, len(alike), step)]
    return packs


def run_packs(
    packs: Sequence[Pack],
    store: Store,
    runner: Runner,
    tell: Callable[[News], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train packs and write what comes of them, a cell at a time.

    A pack that raises is trained again cell by cell, so that one bad cell fails alone; one whose worker dies is tried
    again, at most `ATTEMPTS` times in all. What is under way when this ends early waits again.

    Args:
        stop: asked before each pack: whether to begin no more, and end when those under way are done.

    Raises:
        InputError: the store cannot be written; what was written before is safe.
    """
    queue, running, number = deque(packs), dict[int, Pack](), 0
    try:
        while queue or running:
            while queue and len(running) < runner.slots and not stop():
                pack = _claimed(queue.popleft(), store)
                if pack.jobs:
                    running[number] = pack
                    runner.submit(number, pack.jobs)
                    tell(News("begun", pack.jobs))
                    number += 1
            if not running:
                break
            done = runner.wait()
            queue.extendleft(reversed(_record(running.pop(done.number), done, store, tell)))
    finally:
        try:
            runner.close()
        finally:
            with suppress(InputError):  # a full disk: they are released when the study is run again
                store.release()


def _claimed(pack: Pack, store: Store) -> Pack:
    if pack.claimed:
        return pack
    ours = set(store.claim([each.key for each in pack.jobs]))
    return Pack([each for each in pack.jobs if each.key in ours], pack.deaths, claimed=True)


def _record(pack: Pack, done: PackResult, store: Store, tell: Callable[[News], None]) -> list[Pack]:
    """Write what came of a pack; the packs that are to be trained again."""
    if done.outcomes is not None:
        for each, outcome in zip(pack.jobs, done.outcomes, strict=True):
            _write(each, outcome, store, tell)
        return []
    if done.died and pack.deaths + 1 < ATTEMPTS:
        again = [Pack(pack.jobs, pack.deaths + 1, claimed=True)]
    elif len(pack.jobs) > 1:  # which of them is it?
        deaths = ATTEMPTS - 1 if done.died else 0
        again = [Pack([each], deaths, claimed=True) for each in pack.jobs]
    else:
        _write(pack.jobs[0], done.error or f"{done.died}, {ATTEMPTS} times", store, tell)
        return []
    tell(News("again", pack.jobs, done.died or _last_line(done.error)))
    return again


def _write(job: Job, outcome: Outcome, store: Store, tell: Callable[[News], None]) -> None:
    if isinstance(outcome, str):
        store.fail(job.key, outcome)
        tell(News("failed", [job], _last_line(outcome)))
    else:
        store.finish(job.key, outcome)
        tell(News("done", [job]))


def _last_line(traceback: str) -> str:
    return traceback.strip().splitlines()[-1]
