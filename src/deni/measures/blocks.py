"""Which seeds belong together: those of one block, under one choice of labels and texts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from deni.errors import InputError
from deni.measures.arrays import Floats, Ints


def as_blocks(blocks: ArrayLike | None, seeds: int) -> Ints:
    """Number the block of each seed from 0 on; `None` is one block. Each block has at least two seeds.

    >>> as_blocks(["a", "b", "b", "a"], 4)
    array([0, 1, 1, 0])
    """
    if blocks is None:
        return np.zeros(seeds, dtype=np.int64)
    names = np.asarray(blocks)
    if names.shape != (seeds,):
        raise InputError(f"blocks must name the block of each of {seeds} seeds, not have shape {names.shape}")
    known, numbers = np.unique(names, return_inverse=True)
    sizes = np.bincount(numbers)
    if sizes.min() < 2:
        raise InputError(f"block {known[sizes.argmin()]} has one seed: no spread within it; give it at least 2")
    return numbers.astype(np.int64)


def within_blocks(
    scores: Floats, blocks: ArrayLike | None, center: Callable[..., Floats] = np.mean
) -> tuple[Floats, int]:
    """Subtract the mean (or another center) of each block from its scores `(S, ...)`; also give S - B.

    S - B are the degrees of freedom that are left for a spread within blocks.

    >>> within_blocks(np.array([1.0, 3.0, 11.0, 13.0]), [0, 0, 1, 1])
    (array([-1.,  1., -1.,  1.]), 2)
    """
    block = as_blocks(blocks, len(scores))
    centers = np.stack([center(scores[block == each], axis=0) for each in range(block.max() + 1)])  # (B, ...)
    return scores - centers[block], len(scores) - len(centers)
