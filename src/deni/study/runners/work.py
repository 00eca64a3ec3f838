"""What a worker does with a pack, wherever it runs."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Sequence
from functools import cache

from deni.study.cell import Cell
from deni.study.library import Library
from deni.study.pack import run_pack
from deni.study.runners.base import Done


def work(number: int, cells: Sequence[Cell], threads: int) -> Done:
    """Train a pack; an exception becomes a traceback."""
    import torch

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # those of the texts were shown when the study was read
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return Done(number, run_pack(cells, _library()))
    except Exception:
        return Done(number, error=traceback.format_exc())


@cache
def _library() -> Library:
    """The texts that this process has read."""
    return Library()
