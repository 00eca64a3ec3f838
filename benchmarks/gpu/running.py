"""Cases that are measured one after another until the time is up, and the file that keeps them."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

START = 15.0  # seconds until a process of its own has imported all


@dataclass(frozen=True)
class Case:
    """Something to measure.

    Args:
        name: in the file of results; `part/...`.
        measure: gives JSON values.
        seconds: about what it takes on an H100; it is begun only where so much time is left.
        apart: in a process of its own, since it may leave the device unusable.
    """

    name: str
    measure: Callable[[], dict[str, Any]]
    seconds: float = 2.0
    apart: bool = False

    @property
    def part(self) -> str:
        """What its name begins with."""
        return self.name.partition("/")[0]


class OutOfTime(BaseException):
    """No `Exception`, so that libraries do not take it for one of theirs."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise OutOfTime inside after so many seconds."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Clock:
    """The time of this call.

    Args:
        minutes: after which nothing is measured any more.
        began: where the clock stands at the start, of `time.monotonic`.
    """

    def __init__(self, minutes: float, began: float) -> None:
        self.end = began + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def end_what_hangs(self) -> None:
        """End this process 15 seconds after its time, for a kernel heeds no signal."""
        watch = threading.Timer(self.left + 15, os._exit, [3])
        watch.daemon = True
        watch.start()


class Results:
    """What was measured, in a JSON file that is whole after each case.

    Args:
        path: of the file; what it has already stays.
        call: what is said of this call: device, versions, settings.
    """

    def __init__(self, path: Path, call: dict[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = {"format": 1, "calls": [], "cases": {}}
        if path.exists():
            self.content = json.loads(path.read_text(encoding="utf-8"))
        self.content["calls"].append(call)
        self.write()

    def __contains__(self, name: str) -> bool:
        return name in self.content["cases"]

    def put(self, name: str, value: dict[str, Any]) -> None:
        """Keep a case."""
        self.content["cases"][name] = {**value, "call": len(self.content["calls"]) - 1}
        self.write()

    def drop_failed(self) -> None:
        """Let what failed be measured again."""
        for name in [name for name, value in self.content["cases"].items() if "error" in value]:
            del self.content["cases"][name]

    def write(self) -> None:
        """Write the file, whole or not at all."""
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.path)


def measure_all(
    cases: Sequence[Case],
    results: Results,
    clock: Clock,
    apart: Callable[[Sequence[Case], float], dict[str, dict[str, Any]]],
    clean: Callable[[], None],
    patience: float = 1.0,
) -> list[str]:
    """Measure what is not in the file yet, in this order; returns the names of what the time did not suffice for.

    Args:
        apart: measures cases of one part in a process of their own, within so many seconds; a case that it did not
            come to is missing in what it returns.
        clean: called after a case that failed, and before a process of its own starts.
        patience: times what a case is given on an H100.
    """
    waiting = [case for case in cases if case.name not in results]
    left = []
    while waiting:
        case = waiting[0]
        group = [each for each in waiting if each.apart and each.part == case.part] if case.apart else [case]
        waiting = [each for each in waiting if each not in group]
        if clock.left < case.seconds + (START if case.apart else 2):
            left += [each.name for each in group]
            continue
        began = time.monotonic()
        if case.apart:
            clean()  # the device's memory is theirs
            found = apart(group, min(patience * sum(START + 2 * each.seconds for each in group), clock.left - 1))
        else:
            found = {case.name: value} if (value := _measured(case, clock, patience)) else {}
        took = round((time.monotonic() - began) / len(group), 2)
        for name, value in found.items():
            results.put(name, {"took": took, **value})
            shown = {key: each for key, each in value.items() if not isinstance(each, dict | list)}
            print(f"{clock.left:6.1f} s left  {name}: {value.get('error') or shown}", flush=True)
        left += [each.name for each in group if each.name not in found]
        if any("error" in value for value in found.values()) or len(found) < len(group):
            clean()
    return left


def _measured(case: Case, clock: Clock, patience: float) -> dict[str, Any]:
    """What a case gives, or its error; nothing where the time of the call was up."""
    own = patience * max(30.0, 4 * case.seconds)
    allowed = min(own, clock.left - 1)
    try:
        with at_most(allowed):
            return case.measure()
    except OutOfTime:
        return {"error": f"took longer than {own:.0f} seconds"} if allowed == own else {}
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    except Exception as error:
        return said_of(error)


def said_of(error: BaseException) -> dict[str, Any]:
    """An exception as JSON: its text, and where it was raised."""
    lines = traceback.format_exception(error)
    return {"error": f"{type(error).__name__}: {error}"[:2000], "traceback": "".join(lines)[-3000:]}


def forget() -> None:
    """Free what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
