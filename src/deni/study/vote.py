"""How the members of a stored cell vote, from its resolved settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deni.study.keys import combine_of, task_of


def voter(decided: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """The vote of a cell: per-member outputs `(N, M, C)` become `(N, C)`.

    Args:
        decided: see `deni.study.keys.decides`; the strategy itself need not be known here.
    """
    import torch

    from deni.tasks.voting import vote

    combine, task = combine_of(decided), task_of(decided)
    return lambda members: vote(torch.from_numpy(members), combine, task).numpy()
