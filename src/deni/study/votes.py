"""What a cell would have scored with another vote, so that one training answers for all of them."""

from __future__ import annotations

import numpy as np
import torch

from deni.finetune import scores_of
from deni.measures import macro_f1, pairwise_disagreement
from deni.tasks.voting import Combine, vote

VOTES: tuple[Combine, ...] = ("soft", "hard", "parent")


def other_votes(members: np.ndarray, merged: np.ndarray | None, gold: np.ndarray, task: str) -> dict[str, float]:
    """Scores beside those of the vote; empty for one member.

    Args:
        members: log probabilities of each voter `(N, M, C)`, the parent first.
        merged: of the members' mean as one model `(N, C)`; None where there is none.
        gold: class numbers `(N,)`.
        task: of other tasks than `single_label` only `merged` is scored.

    Returns:
        `soft_macro_f1`, `hard_macro_f1` and `parent_macro_f1`, whatever the strategy takes; `members_macro_f1`, the
        mean of the members' own; `disagreement`, the share of texts on which two members choose different classes;
        `merged_` and each metric of the task.
    """
    found = {}
    if members.shape[1] > 1 and task == "single_label":
        for combine in VOTES:
            chosen = vote(torch.from_numpy(members), combine).argmax(-1).numpy()
            found[f"{combine}_macro_f1"] = float(macro_f1(chosen[None], gold)[0])
        each = members.argmax(-1).T  # (M, N)
        found["members_macro_f1"] = float(macro_f1(each, gold).mean())
        found["disagreement"] = pairwise_disagreement(each)
    if merged is not None:
        found |= {f"merged_{name}": value for name, value in scores_of(task, gold, merged).items()}  # type: ignore[arg-type]
    return found
