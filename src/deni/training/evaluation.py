"""An evaluation of the population: its loss, how many rows at a time it computes, how good a member is by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from deni.errors import SettingError
from deni.population import Population
from deni.tasks import Task
from deni.tasks.voting import Combine

# Texts times members of one forward pass on a CPU; measured with MiniLM, ten members: on texts of 50 tokens 400 rows
# take 1.1 times the time of 128, on those of 10 tokens the same, and 64 rows 1.1 times that.
ROWS = 128


def loss_of_votes(votes: Tensor, labels: Tensor, task: Task, losses: Callable[[Any, Tensor, int], Tensor]) -> Tensor:
    """The mean loss of the votes of each model, `(R,)`.

    Args:
        votes, labels: `(B, R, ...)`.
        losses: of each model `(R,)`, of outputs and labels `(R*B, ...)`, model by model.
    """
    logits = task.as_logits(votes.transpose(0, 1).flatten(0, 1))
    return losses({"logits": logits}, labels.transpose(0, 1).flatten(0, 1), votes.shape[1])


def loss_of_voters(losses: Tensor, voters: Sequence[Sequence[int]], combine: Combine) -> Tensor:
    """Of each model the mean loss of those members that vote, `(R,)`.

    Args:
        losses: of all members, `(M,)`.
        voters: of each model, counted within it.
        combine: see `deni.tasks.voting.vote`.
    """
    each = losses.unflatten(0, (len(voters), -1))
    return torch.stack([each[at, [0] if combine == "parent" else list(who)].mean() for at, who in enumerate(voters)])


@contextmanager
def few_rows(args: TrainingArguments, members: int) -> Iterator[None]:
    """Inside, a batch has fewer texts where many members on a CPU would make it too large for its caches."""
    batch = args.per_device_eval_batch_size
    if args.device.type == "cpu":
        args.per_device_eval_batch_size = max(1, min(batch, ROWS // members))
    try:
        yield
    finally:
        args.per_device_eval_batch_size = batch


def scores_by(
    evaluate: Callable[[], Mapping[str, float]],
    population: Callable[[], Population],
    args: TrainingArguments,
) -> Callable[[Mapping[str, Tensor]], float]:
    """How good one member of some values `(*shape)` is on the evaluation set, more is better.

    The population becomes that member. The metric is the one that the arguments choose the best model by, else the
    loss; whether more of it is better follows from its name, where they do not say.
    """
    metric, greater = args.metric_for_best_model or "loss", args.greater_is_better

    def score(values: Mapping[str, Tensor]) -> float:
        population().replace({name: value.unsqueeze(0) for name, value in values.items()}, 1)
        metrics = evaluate()
        name = metric if metric in metrics else f"eval_{metric}"
        if name not in metrics:
            raise SettingError(f"metric_for_best_model is {metric}, but an evaluation gives {', '.join(metrics)}")
        value = metrics[name]
        return value if (greater if greater is not None else not metric.endswith("loss")) else -value

    return score
