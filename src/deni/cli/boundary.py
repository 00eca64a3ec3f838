"""Which errors are the user's, and what the command line prints for those that are not."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, entry_points, metadata, version

import click

from deni._version import __version__
from deni.errors import InputError, SettingError, TrainingDivergedError
from deni.outputs.failures import error_number
from deni.terminal import say

FAULT, USER, INTERRUPTED = 1, 2, 130  # exit codes

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def boundary(debug: bool = False) -> Iterator[None]:
    """Print an error as one line and exit: with code 2 what the user can mend, with 1 a fault of deni.

    Args:
        debug: whether the traceback is printed, too; without it that of a fault goes into a log file.
    """
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise  # click prints these
    except KeyboardInterrupt:
        say("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if debug:
            traceback.print_exc()
        reason = reason_of(error)
        line = reason if reason is not None else _fault(error, None if debug else _write_log(error))
        say(f"Error: {' '.join(line.split())}", err=True)
        sys.exit(FAULT if reason is None else USER)


def reason_of(error: BaseException) -> str | None:
    """What to tell of an error that the user can mend; None for a fault of deni.

    >>> reason_of(SettingError("members must be at least 1, not 0")), reason_of(ValueError("unpacked 3 of 2"))
    ('members must be at least 1, not 0', None)
    """
    if isinstance(error, InputError | SettingError | TrainingDivergedError):
        return str(error)
    if error_number(error) in _FULL:
        return f"the disk is full ({error}): free space and give the command again"
    if error_number(error) == errno.EFBIG:
        return f"a file would be larger than is allowed ({error}): raise the limit (ulimit -f) and give it again"
    if _is_short_of_memory(error):
        first = (str(error).splitlines() or ["out of memory"])[0]
        return f"memory is short ({first}): use a smaller --batch-size, fewer --members, or --tuning lora"
    return None


def _is_short_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # where nothing has imported it, nothing of it was raised
    if isinstance(error, MemoryError) or error_number(error) == errno.ENOMEM:
        return True
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return on_cpu or (torch is not None and isinstance(error, torch.cuda.OutOfMemoryError))


# ---- faults --------------------------------------------------------------------------------------------------------


def _fault(error: Exception, log: str | None) -> str:
    what = traceback.format_exception_only(error)[-1].strip()
    where = f"; the traceback is in {log}" if log else ""
    if plugin := _plugin_at_fault(error):
        return f"this is a fault of the plug-in {plugin}, not of your input: {what}{where}"
    address = issues_address()
    report = f"{' and' if log else ';'} a report is welcome{f' at {address}' if address else ''}"
    return f"this is a fault of deni, not of your input: {what}{where}{report}"


def _plugin_at_fault(error: Exception) -> str | None:
    """The package of a strategy or tuning that raised an error; None if deni did, or what deni called."""
    points = [*entry_points(group="deni.strategies"), *entry_points(group="deni.tuning")]
    packages = {each.module.partition(".")[0]: each.dist.name if each.dist else each.module for each in points}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package in packages or package == "deni":
            return packages.get(package)
    return None


def issues_address() -> str | None:
    """Where faults are reported: `Issues` in pyproject.toml; None where deni is not installed."""
    try:
        urls = metadata("deni").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    found = dict(url.split(", ", 1) for url in urls)
    return found.get("Issues")


def _write_log(error: Exception) -> str | None:
    """Write traceback, command and versions into the temporary directory; None where that is not possible."""
    lines = [
        f"command: {shlex.join(sys.argv)}",
        f"deni {__version__}, Python {platform.python_version()}, {platform.platform()}",
        *(f"{name} {_version(name)}" for name in ("torch", "transformers", "peft", "accelerate", "datasets")),
        "",
        *traceback.format_exception(error),
    ]
    try:
        handle, name = tempfile.mkstemp(prefix="deni-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write("\n".join(line.rstrip("\n") for line in lines) + "\n")
    except OSError:
        return None
    return name


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "is not installed"
