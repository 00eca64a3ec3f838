"""What a cell would have scored with another vote, so that one training answers for all of them."""

from __future__ import annotations

import numpy as np
import torch

from deni.tasks import TASKS
from deni.tasks.voting import Combine, vote

VOTES: tuple[Combine, ...] = ("soft", "hard", "parent")


def other_votes(members: np.ndarray, merged: np.ndarray | None, gold: np.ndarray, task: str) -> dict[str, float]:
    """Scores of other rules than the vote's; empty for one member.

    Args:
        members: log probabilities of each voter `(N, M, C)`, the parent first.
        merged: of the members' mean as one model `(N, C)`; None where there is none.
        gold: class numbers `(N,)`.
        task: where a text has not exactly one class, only `merged` is scored.

    Returns:
        `soft_macro_f1`, `hard_macro_f1` and `parent_macro_f1` (or the metric by which studies compare the task),
        whatever the strategy takes; `members_macro_f1`, the mean of the members' own; `disagreement`, the share of
        texts on which two members choose different classes; `merged_` and each metric of the task.
    """
    kind, found = TASKS[task], {}
    if members.shape[1] > 1 and kind.one_class:
        name = kind.compared
        for combine in VOTES:
            found[f"{combine}_{name}"] = kind.scores(gold, vote(torch.from_numpy(members), combine, task).numpy())[name]  # type: ignore[arg-type]
        each = [kind.scores(gold, member)[name] for member in members.swapaxes(0, 1)]  # type: ignore[arg-type]
        found[f"members_{name}"] = float(np.mean(each))
        found["disagreement"] = kind.disagreement(members)
    if merged is not None:
        found |= {f"merged_{name}": value for name, value in kind.scores(gold, merged).items()}  # type: ignore[arg-type]
    return found
