"""The vote of the members on what they predict of a batch."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.trainer_utils import PredictionOutput

from deni.tasks import Task
from deni.tasks.voting import Combine, vote
from deni.training.ballots import Ballots, Predicted, nested
from deni.training.evaluation import loss_of_voters, loss_of_votes
from deni.training.runs import RunSeeds
from deni.training.seed_metrics import EachLoss, each_array

logger = logging.getLogger(__name__)


def voters(model: int, runs: int, members: int, frozen: Collection[int]) -> list[int]:
    """The members of a model whose runs are not frozen, counted within it; all, where none is left.

    Args:
        model: which of those that are trained side by side.
        runs: of one model.
        members: K, of each run.
        frozen: runs that are.

    >>> voters(1, runs=2, members=2, frozen={3})
    [0, 1]
    """
    finite = [at for at in range(runs * members) if model * runs + at // members not in frozen]
    return finite or list(range(runs * members))


def compute_votes(outputs: Tensor, voters: Sequence[Sequence[int]], combine: Combine, task: Task) -> Tensor:
    """The vote of each model: `(B, R, C)` or `(B, R, T, C)`.

    Args:
        outputs: of all members, `(B, M, C)` or `(B, M, T, C)`.
        voters: of each model, counted within it.
        combine: see `deni.tasks.voting.vote`.
    """
    models = outputs.unflatten(1, (len(voters), -1)).unbind(1)  # R of (B, K, C)
    return torch.stack(
        [
            vote(outputs_of_model[:, who], combine, task.name)
            for outputs_of_model, who in zip(models, voters, strict=True)
        ],
        1,
    )


def labels_of_models(labels: Tensor, models: int, runs: int | None) -> Tensor:
    """The labels for the vote of each model: `(B, R, ...)`.

    Args:
        labels: `(B, ...)`, or `(runs*B, ...)` of a packed batch, run by run; an ensemble's runs share their rows.
        models: R.
        runs: in a packed batch; None for one that all share.
    """
    if runs is not None:
        return labels.unflatten(0, (runs, -1))[:: runs // models].transpose(0, 1)
    return labels.unsqueeze(1).expand(len(labels), models, *labels.shape[1:])


def tokens_first(outputs: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Predictions and labels of tokens as `(B, T, R, ...)`: Trainer pads dim 1. Those of one model stay as they are."""
    if outputs.dim() == 4:
        outputs = outputs.transpose(1, 2)
    if labels is not None and labels.dim() == 3:
        labels = labels.transpose(1, 2)
    return outputs, labels


def tokens_last(output: PredictionOutput) -> PredictionOutput:
    """What Trainer collected of `tokens_first`, as `(N, R, T, ...)`."""
    outputs: Any = output.predictions
    labels: Any = output.label_ids
    return output._replace(
        predictions=each_array(lambda value: np.swapaxes(value, 1, 2) if value.ndim == 4 else value, outputs),
        label_ids=each_array(lambda value: np.swapaxes(value, 1, 2) if value.ndim == 3 else value, labels),
    )


class Voting:
    """The vote of the members in training.

    Args:
        ballots: what they predict.
        seeds: of all runs.

    Attributes:
        of_members: whether a step gives each member's predictions in place of their vote.
        loss_of_each: whether a step gives the loss of each model, `(R,)`, in place of their mean.
    """

    def __init__(self, ballots: Ballots, seeds: RunSeeds) -> None:
        self.ballots, self.phases, self.seeds = ballots, ballots.phases, seeds
        self.of_members = self.loss_of_each = False
        self._said: set[str] = set()

    @contextmanager
    def asking_members(self, wanted: bool = True) -> Iterator[None]:
        """Inside, each member is asked, if that is wanted."""
        self.of_members = wanted
        try:
            yield
        finally:
            self.of_members = False

    def voters(self, model: int) -> list[int]:
        """The members of a model whose runs are not frozen; all, where none is left."""
        return voters(model, self.seeds.per_model, self.phases.population.members, self.phases.failures.runs)

    def step(self, predicted: Predicted, packed: bool) -> tuple[Tensor | None, Any, Any]:
        """The loss of the vote, what it predicts `(B, C)`, and the labels.

        Several models: `(B, R, C)`; every member: `(B, M, C)`. Of tokens: `(B, T, C)`, `(B, T, R, C)`, `(B, T, M, C)`.

        Args:
            packed: whether the rows of all runs are concatenated, run by run.
        """
        runs, models = self.seeds.runs if packed else None, len(self.seeds.seeds)
        labels, members = predicted.labels, predicted.outputs
        voters = [self.voters(model) for model in range(models)]
        combine = self.phases.strategy.combine
        loss = self._loss_of_members(predicted, voters)
        if labels is not None:
            labels = nested(lambda each: labels_of_models(each, models, runs), labels)  # (B, R, ...)
        task = self.ballots.task.known(predicted.labels, members) if members is not None else None
        if task is None:
            votes = members  # of one member, or none
            if models == 1 and isinstance(members, Tensor):
                votes = members[:, 0]
        elif predicted.losses is not None and self.phases.population.size == 1:
            votes = members
        else:
            votes = compute_votes(members, voters, combine, task)  # (B, R, C)
            if labels is not None and loss is None:
                # Shares of members are 0 where none chose a class: the loss is that of the probabilities.
                soft = combine == "hard" and task.chooses
                likely = compute_votes(members, voters, "soft", task) if soft else votes
                losses = partial(self.ballots.losses.of_members, task=lambda: task)
                loss = loss_of_votes(likely, labels, task, losses)
        if loss is not None:
            loss = loss.as_subclass(EachLoss) if self.loss_of_each else loss.mean()
        if models == 1:
            votes = votes[:, 0] if task is not None else votes
            labels = nested(lambda each: each[:, 0], labels) if labels is not None else None
        outputs = members if self.of_members else votes
        if task is not None and task.by_token:
            outputs, labels = tokens_first(outputs, labels)
        if predicted.others and not self.of_members:
            if models == 1:
                outputs = (outputs, *predicted.others)
            else:
                self._say("other outputs of the model than its first are predicted for one seed, not for several")
        return loss, outputs, labels

    def one_vote(self, inputs: Mapping[str, Any]) -> tuple[Tensor | None, Tensor]:
        """The loss, and what all models predict together, `(B, C)` or `(B, T, C)`: several vote like members."""
        loss, votes, _ = self.step(replace(self.ballots.called(inputs), others=()), packed=False)
        if len(self.seeds.seeds) > 1:
            task = self.ballots.task.find()
            members = votes.transpose(1, 2) if task.by_token else votes  # (B, R, C) or (B, R, T, C)
            votes = vote(members, self.phases.strategy.combine, task.name)
        return loss, votes

    def _loss_of_members(self, predicted: Predicted, voters: Sequence[Sequence[int]]) -> Tensor | None:
        """See `loss_of_voters`; None where the vote has the loss."""
        if predicted.losses is None:
            return None
        if len(predicted.losses) > len(voters):
            self._say("the loss of an evaluation is the mean of the members' losses")
        return loss_of_voters(predicted.losses, voters, self.phases.strategy.combine)

    def _say(self, what: str) -> None:
        """Log it once."""
        if what not in self._said:
            self._said.add(what)
            logger.warning(what)
