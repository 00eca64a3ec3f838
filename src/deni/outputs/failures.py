"""What the system says where something cannot be written, whichever library was writing."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

_WRITING = ("PytorchStreamWriter", "unexpected pos", "iostream error")  # in what `torch.save` raises


def error_number(error: BaseException) -> int | None:
    """The system's number of a failed call; None for any other error.

    safetensors and tokenizers are written in Rust: their classes, the latter's is `Exception` itself, have the number
    in the text only. `torch.save` checks positions and keeps no number; what it finds is a full disk.

    >>> error_number(Exception("No space left on device (os error 28)")) == errno.ENOSPC
    True
    """
    if isinstance(error, OSError):
        return error.errno
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        return int(found[1])
    if isinstance(error, RuntimeError) and any(name in str(error) for name in _WRITING):
        return errno.ENOSPC
    return None


@contextmanager
def system_errors() -> Iterator[None]:
    """Inside, what a library's own class says of the system is raised as the OSError that it is."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        number = error_number(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def describe_failure(error: BaseException) -> str:
    """Why something could not be written, in a few words.

    >>> describe_failure(OSError(errno.ENOSPC, "No space left on device", "model"))
    'No space left on device'
    """
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(reason).split())
