"""A worker's part: training one pack."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from deni.study.execution.job import Job
from deni.study.execution.runners.base import PackResult

if TYPE_CHECKING:
    from deni.study.library import Library


def work(
    number: int,
    jobs: Sequence[Job],
    threads: int,
    trunks: str | None,
    device: str | None,
    library: Library | None = None,
) -> PackResult:
    """Train a pack; an exception becomes a traceback. What it sets of its process, it sets back.

    Args:
        library: what was read for this study already; None for the one of a process that works for one study.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it speaks when it is imported
    import torch

    from deni.study.execution.pack import run_pack

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the texts were shown when the study was read
            return PackResult(number, run_pack(jobs, _library() if library is None else library, trunks, device))
    except Exception:
        return PackResult(number, error=traceback.format_exc())
    finally:
        torch.set_num_threads(before)


@cache
def _library() -> Library:
    """The texts that this process has read."""
    from deni.study.library import Library

    return Library()
