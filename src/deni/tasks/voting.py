"""How members vote."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Combine = Literal["soft", "hard", "parent"]
COMBINES = get_args(Combine)

# The kinds of problem under the names of transformers; a model of any other is taken for the first.
ONE, SEVERAL, NUMBER = "single_label_classification", "multi_label_classification", "regression"
TOKENS = "token_classification"  # no config says it: it is the kind of model
PROBLEMS = {"single_label": ONE, "multi_label": SEVERAL, "regression": NUMBER, "token": TOKENS}  # of each task


def problem_of(model: Any) -> str:
    """The kind of problem that a model and its config say."""
    from deni.models.architectures import for_tokens

    if for_tokens(model):
        return TOKENS
    return model.config.problem_type or (NUMBER if model.config.num_labels == 1 else ONE)


def task_of(problem: str) -> str:
    """The task, as `--task` names it, of a kind of problem."""
    return next((task for task, known in PROBLEMS.items() if known == problem), "single_label")


def member_outputs(logits: Tensor, problem: str = ONE) -> Tensor:
    """What members say, in float32 or better: log probabilities, log odds of each label, or the numbers themselves.

    Args:
        logits: `(..., C)`, of any number of members.
        problem: as `problem_of` gives it.
    """
    import torch

    outputs = logits if logits.dtype == torch.float64 else logits.float()
    return outputs if problem in (SEVERAL, NUMBER) else outputs.log_softmax(-1)


def choices(outputs: Tensor, problem: str = ONE) -> Tensor | None:
    """What members choose: classes `(...)`, whether each label is there `(..., C)`, or None for numbers.

    >>> import torch
    >>> choices(torch.tensor([[0.0, 2.0]]), "multi_label_classification")
    tensor([[False,  True]])
    """
    if problem == NUMBER:
        return None
    return outputs > 0 if problem == SEVERAL else outputs.argmax(-1)


def vote(outputs: Tensor, combine: Combine = "soft", problem: str = ONE) -> Tensor:
    """Let members vote.

    Args:
        outputs: as `member_outputs` gives them, `(B, M, C)`, or `(B, M, T, C)` of tokens, each of which is voted on.
        combine: `soft`: the mean of the probabilities, or of the numbers; `hard`: the share of the members that choose
            a class or a label (a tie goes to the lowest class, and leaves a label out), or the median of the numbers;
            `parent`: the first member alone (what the released research code does).
        problem: as `problem_of` gives it.

    Returns:
        `(B, C)`, or `(B, T, C)`. One label: log probabilities; their largest entry is the choice, and a class without
        a vote has -inf in a hard vote. Several labels: log odds; those above 0 are chosen, and a label on which all
        agree has inf or -inf in a hard vote. Regression: numbers.

    >>> import torch
    >>> two_to_one = torch.tensor([[[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]]])
    >>> vote(two_to_one.log()).exp().argmax(-1), vote(two_to_one.log(), "hard").argmax(-1)
    (tensor([1]), tensor([0]))
    >>> vote(two_to_one.logit(), problem="multi_label_classification").sigmoid().round(decimals=3)
    tensor([[0.4330, 0.5670]])
    >>> vote(two_to_one, "hard", "regression")
    tensor([[0.6000, 0.4000]])
    """
    from torch.nn.functional import logsigmoid, one_hot

    if combine not in COMBINES:
        raise ValueError(f"unknown vote {combine!r}: choose soft, hard or parent")
    if combine == "parent":
        return outputs[:, 0]
    if problem == NUMBER:
        return outputs.mean(1) if combine == "soft" else _median(outputs)
    if problem == SEVERAL:
        if combine == "hard":
            return (outputs > 0).to(outputs.dtype).mean(1).logit()
        # The log odds of the mean probability; the number of members cancels.
        return logsigmoid(outputs).logsumexp(1) - logsigmoid(-outputs).logsumexp(1)
    if combine == "hard":
        return one_hot(outputs.argmax(-1), outputs.shape[-1]).to(outputs.dtype).mean(1).log()
    return outputs.logsumexp(1) - math.log(outputs.shape[1])


def _median(outputs: Tensor) -> Tensor:
    """Over dim 1; the mean of the two in the middle where there are two (`torch.median` takes the lower)."""
    ordered, members = outputs.sort(1).values, outputs.shape[1]
    return (ordered[:, (members - 1) // 2] + ordered[:, members // 2]) / 2
