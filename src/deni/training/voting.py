"""Predictions of the members of a population, their vote, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainingArguments
from transformers.trainer_utils import PredictionOutput

from deni.engine.module import PopulationModule
from deni.models.hugging_face import hugging_face
from deni.population import Population
from deni.tasks import Task, task_of
from deni.tasks.voting import Combine, vote
from deni.training.losses import MemberLoss
from deni.training.phases import Phases
from deni.training.runs import RunSeeds
from deni.training.seed_metrics import EachLoss, each_array

# Texts times members of one forward pass on a CPU; measured with MiniLM, 50 members: 400 rows take half the time
# of 3,200, and less than 800.
ROWS = 400


def labels_of(inputs: dict[str, Any], names: Sequence[str]) -> Any:
    """The labels of a batch, which has none of these columns afterwards; None if it had none."""
    found = [inputs.pop(name) for name in names if inputs.get(name) is not None]
    return found[0] if found else None


def task_shown_by(labels: Tensor | None, model: nn.Module, task: Task | None = None) -> Task:
    """The task; remembered in the config, as transformers does, once labels have shown it.

    Args:
        labels: None where they show nothing.
        model: the plain module.
        task: None to infer it from the model.
    """
    config: Any = hugging_face(model).config  # problem_type has another annotation in each version
    if task is not None:
        config.problem_type = task.problem_type
        return task
    found = task_of(model, labels)
    if labels is not None and config.problem_type is None:
        config.problem_type = found.problem_type
    return found


def outputs_of_members(
    model: nn.Module, module: PopulationModule, inputs: Mapping[str, Any], groups: int, task: Task
) -> Tensor:
    """Per-member outputs: `(B, M, C)` or `(B, M, T, C)`, see `deni.tasks.Task.outputs`.

    Args:
        model: the module as Trainer calls it.
        module: itself.
        inputs: `(groups*B, ...)`, see `PopulationModule.fold`.
        task: what a text has.
    """
    parts = []
    for chunk in module.chunks:
        module.focus(chunk)
        outputs = model(**module.fold(inputs, groups))
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        parts.append(logits.unflatten(0, (len(chunk), -1)))
    return task.outputs(torch.cat(parts).transpose(0, 1))


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


def loss_of(votes: Tensor, labels: Tensor, task: Task, losses: Callable[[Any, Tensor, int], Tensor]) -> Tensor:
    """The mean loss of the votes of each model, `(R,)`.

    Args:
        votes, labels: `(B, R, ...)`.
        losses: of each model `(R,)`, of outputs and labels `(R*B, ...)`, model by model.
    """
    logits = task.as_logits(votes.transpose(0, 1).flatten(0, 1))
    return losses({"logits": logits}, labels.transpose(0, 1).flatten(0, 1), votes.shape[1])


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
    metric: str,
    greater: bool | None,
) -> Callable[[Mapping[str, Tensor]], float]:
    """How good one member of some values `(*shape)` is on the evaluation set, more is better.

    The population becomes that member.

    Args:
        metric: its name, also without `eval_`.
        greater: whether more of it is better; None to decide by its name.
    """

    def score(values: Mapping[str, Tensor]) -> float:
        population().replace({name: value.unsqueeze(0) for name, value in values.items()}, 1)
        metrics = evaluate()
        value = metrics[metric if metric in metrics else f"eval_{metric}"]
        return value if (greater if greater is not None else not metric.endswith("loss")) else -value

    return score


class Ballots:
    """Predictions of the members in training, their vote, and its metrics.

    Args:
        phases: which members there are, and which have no vote.
        seeds: of all runs.
        label_names: columns of labels.
        loss: of members.
        context: of a forward pass.
        task: of the model; None to infer it.

    Attributes:
        of_members: whether a step gives each member's predictions in place of their vote.
        loss_of_each: whether a step gives the loss of each model, `(R,)`, in place of their mean.
    """

    def __init__(
        self,
        phases: Phases,
        seeds: RunSeeds,
        label_names: Sequence[str],
        loss: MemberLoss,
        context: Callable[[], AbstractContextManager],
        task: Task | None = None,
    ) -> None:
        self.phases, self.seeds, self.label_names = phases, seeds, label_names
        self.loss, self.context, self.task = loss, context, task
        self.of_members = self.loss_of_each = False

    @contextmanager
    def asking_members(self, wanted: bool = True) -> Iterator[None]:
        """Inside, each member is asked, if that is wanted."""
        self.of_members = wanted
        try:
            yield
        finally:
            self.of_members = False

    def labels_of(self, inputs: dict[str, Any]) -> Any:
        """The labels of a batch, which has none afterwards."""
        return labels_of(inputs, self.label_names)

    def shown_labels_of(self, inputs: dict[str, Any]) -> Any:
        """The same; what they show of the task is remembered."""
        labels = self.labels_of(inputs)
        self.find_task(labels)
        return labels

    def find_task(self, labels: Tensor | None = None) -> Task:
        """The task; labels of a loss of the user's own, such as soft ones, show nothing."""
        return task_shown_by(labels if self.loss.own is None else None, self.phases.population.model, self.task)

    def losses(self, outputs: Any, labels: Tensor, members: int, items: Any = None) -> Tensor:
        """The mean loss of each member, `(M,)`; see `deni.training.losses.MemberLoss`."""
        return self.loss(outputs, labels, members, lambda: self.find_task(labels), items)

    def voters(self, model: int) -> list[int]:
        """The members of a model whose runs are not frozen; all, where none is left."""
        return voters(model, self.seeds.per_model, self.phases.population.members, self.phases.failures.runs)

    def outputs(self, model: nn.Module, inputs: dict[str, Any], groups: int = 1) -> tuple[Tensor, Tensor | None]:
        """Per-member outputs, `(B, M, C)` or `(B, M, T, C)`, and the labels; `model` is as Trainer passes it."""
        labels = self.labels_of(inputs)
        module = self.phases.population.module
        with torch.no_grad(), self.context():
            outputs = outputs_of_members(model, module, inputs, groups, self.find_task(labels))
        return outputs, labels

    def step(
        self, model: nn.Module, inputs: dict[str, Any], packed: bool
    ) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """The loss of the vote, what it predicts `(B, C)`, and the labels.

        Several models: `(B, R, C)`; every member: `(B, M, C)`. Of tokens: `(B, T, C)`, `(B, T, R, C)`, `(B, T, M, C)`.

        Args:
            packed: whether the rows of all runs are concatenated, run by run.
        """
        runs, models = self.seeds.runs if packed else None, len(self.seeds.seeds)
        members, labels = self.outputs(model, inputs, runs or 1)  # (B, M, C)
        task, loss = self.find_task(labels), None
        voters = [self.voters(model) for model in range(models)]
        votes = compute_votes(members, voters, self.phases.strategy.combine, task)  # (B, R, C)
        if labels is not None:
            labels = labels_of_models(labels, models, runs)  # (B, R, ...)
            loss = loss_of(votes, labels, task, self.losses)
            loss = loss.as_subclass(EachLoss) if self.loss_of_each else loss.mean()
        if models == 1:
            votes, labels = votes[:, 0], labels[:, 0] if labels is not None else None
        outputs = members if self.of_members else votes
        return loss, *(tokens_first(outputs, labels) if task.of_words else (outputs, labels))

    def one_vote(self, inputs: dict[str, Any]) -> tuple[Tensor | None, Tensor]:
        """The loss, and what all models predict together, `(B, C)` or `(B, T, C)`: several vote like members."""
        loss, votes, _ = self.step(self.phases.population.module, dict(inputs), packed=False)
        if len(self.seeds.seeds) > 1:
            task = self.find_task()
            members = votes.transpose(1, 2) if task.of_words else votes  # (B, R, C) or (B, R, T, C)
            votes = vote(members, self.phases.strategy.combine, task.name)
        return loss, votes
