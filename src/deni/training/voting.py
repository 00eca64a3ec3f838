"""Predictions of the members of a population, their vote, and its metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainingArguments
from transformers.trainer_utils import PredictionOutput

from deni.errors import SettingError
from deni.models.hugging_face import hugging_face
from deni.population import Population
from deni.tasks import Task, find_task, task_of
from deni.tasks.voting import Combine, vote
from deni.training.heads import has_head, takes_soft_labels, without_vote
from deni.training.losses import Losses, first_output, rows_of_member
from deni.training.phases import Phases
from deni.training.runs import RunSeeds
from deni.training.seed_metrics import EachLoss, each_array

logger = logging.getLogger(__name__)

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


def task_fitting(labels: Any, outputs: Tensor) -> Task | None:
    """The task that labels, the first of several, show of a model whose class says nothing; None where there are none.

    >>> task_fitting(torch.tensor([0, 2]), torch.zeros(2, 3)).name, task_fitting(torch.zeros(2), torch.zeros(2, 1)).name
    ('single_label', 'regression')
    """
    if isinstance(labels, tuple | list) and labels:
        labels = labels[0]
    if not isinstance(labels, Tensor):
        return find_task("regression") if outputs.dim() < 2 else None  # one number a text, never a class of each
    if labels.is_floating_point():
        several = labels.dim() > 1 and labels.shape[-1] > 1
        return find_task("multi_label" if several and ((labels == 0) | (labels == 1)).all() else "regression")
    return find_task("token" if labels.dim() > 1 and outputs.dim() > labels.dim() else "single_label")


@dataclass(frozen=True)
class Predicted:
    """What the members predict of a batch.

    Args:
        outputs: `(B, M, C)` or `(B, M, T, C)`, see `deni.tasks.Task.outputs`; None if only the loss is wanted.
        labels: as the batch had them; None if it had none.
        others: the model's other outputs, `(B, M, ...)` or `(B, T, M, ...)`.
        losses: of each member on its rows, `(M,)`; None where the loss is that of the vote.
    """

    outputs: Any
    labels: Any
    others: tuple[Any, ...] = ()
    losses: Tensor | None = None


def ignored_outputs(model: nn.Module, more: Sequence[str] | None) -> list[str]:
    """Names of outputs that are no predictions, as Trainer leaves them out."""
    config = getattr(model, "config", None)
    default = getattr(config, "keys_to_ignore_at_inference", ["past_key_values"])
    return ["loss", *(default if more is None else more)]


def other_outputs(outputs: Any, main: Tensor, ignored: Collection[str]) -> tuple[Any, ...]:
    """What a model returns besides its first output."""
    pairs = outputs.items() if isinstance(outputs, Mapping) else ((str(at), each) for at, each in enumerate(outputs))
    return tuple(value for name, value in pairs if name not in ignored and value is not main and value is not None)


def _nested(function: Callable[..., Any], *structures: Any) -> Any:
    """A function of tensors, on each of those that structures of tuples and dictionaries have in the same place."""
    first = structures[0]
    if isinstance(first, Mapping):
        return {key: _nested(function, *(each[key] for each in structures)) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_nested(function, *each) for each in zip(*structures, strict=True))
    return function(*structures)


def of_all_members(parts: Sequence[Any]) -> Any:
    """Other outputs of each member, `(B, ...)`, as `(B, M, ...)`, of tokens `(B, T, M, ...)`; of one as they are."""
    if len(parts) == 1:
        return parts[0]
    return _nested(lambda *each: torch.stack(each, min(2, max(1, each[0].dim() - 1))), *parts)


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
        name = metric if metric in metrics else f"eval_{metric}"
        if name not in metrics:
            raise SettingError(f"metric_for_best_model is {metric}, but an evaluation gives {', '.join(metrics)}")
        value = metrics[name]
        return value if (greater if greater is not None else not metric.endswith("loss")) else -value

    return score


class Ballots:
    """Predictions of the members in training, their vote, and its metrics.

    Args:
        phases: which members there are, and which have no vote.
        seeds: of all runs.
        label_names: columns of labels.
        losses: of members.
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
        losses: Losses,
        context: Callable[[], AbstractContextManager],
        task: Task | None = None,
    ) -> None:
        self.phases, self.seeds, self.label_names = phases, seeds, label_names
        self.losses, self.context, self.task = losses, context, task
        self.of_members = self.loss_of_each = False
        self._shown: Task | None = None  # by labels, where the class of the model says nothing
        self._said: set[str] = set()

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

    def task_if_known(self, labels: Any = None, outputs: Tensor | None = None) -> Task | None:
        """The task; None where predictions have no vote, or where nothing has shown yet how they vote.

        Args:
            labels: of a batch; of a loss of the user's own, such as soft ones, they show nothing.
            outputs: of the model for it.
        """
        model = self.phases.population.model
        if self.task is None and without_vote(model):
            return None
        labels = labels if self.losses.function is None else None
        if has_head(model) or (self.task is not None and hasattr(model, "config")):
            shown = labels if isinstance(labels, Tensor) else None
            self._check_soft(model, shown)
            return task_shown_by(shown, model, self.task)
        config = getattr(model, "config", None)
        if getattr(config, "problem_type", None) is not None:
            return task_of(model)
        if self.task is None and self._shown is None and outputs is not None:
            self._shown = task_fitting(labels, outputs)
        default = task_of(model) if hasattr(config, "num_labels") else None
        return self.task or self._shown or default

    def _check_soft(self, model: nn.Module, labels: Tensor | None) -> None:
        if labels is None or not labels.is_floating_point() or labels.dim() < 2 or labels.shape[-1] == 1:
            return
        unsaid = self.task is None and hugging_face(model).config.problem_type is None
        if unsaid and self.losses.weight is None and not self.losses.alone and takes_soft_labels(model):
            raise SettingError(
                f"fractions as labels are probabilities of classes to {type(model).__name__}, whose loss is not "
                "computed here: set problem_type of its config, such as 'multi_label_classification', or give "
                "compute_loss_func"
            )

    def task_for(self, labels: Any, outputs: Any) -> Task:
        """The task, which the labels and outputs of a batch may show."""
        return self.task_if_known(labels, first_output(outputs)) or self.find_task()

    def find_task(self, labels: Any = None) -> Task:
        """The task, see `task_if_known`.

        Raises:
            SettingError: there is none.
        """
        task = self.task_if_known(labels)
        if task is None:
            model = self.phases.population.model
            if name := without_vote(model):
                raise SettingError(
                    f"predictions of {name} have no vote: members of a model for sequence "
                    "or token classification vote; evaluate() gives their mean loss, and trainer.model.save_pretrained "
                    "saves one model"
                )
            raise SettingError(f"what {type(model).__name__} predicts is not known: give the trainer its task")
        return task

    @property
    def of_words(self) -> bool:
        """Whether predictions are known to be of tokens."""
        task = self.task_if_known()
        return task is not None and task.of_words

    def voters(self, model: int) -> list[int]:
        """The members of a model whose runs are not frozen; all, where none is left."""
        return voters(model, self.seeds.per_model, self.phases.population.members, self.phases.failures.runs)

    def predict(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        groups: int = 1,
        ignore: Sequence[str] | None = None,
        losses: bool = False,
    ) -> Predicted:
        """What members predict that are computed side by side; `model` is as Trainer passes it.

        Args:
            inputs: `(groups*B, ...)`, see `PopulationModule.fold`.
            ignore: names of outputs that are no predictions.
            losses: whether the loss of each member is asked for.
        """
        labels = self.labels_of(inputs)
        module = self.phases.population.module
        ignored = ignored_outputs(module, ignore)
        parts, others, of_members = [], [], []
        with torch.no_grad(), self.context():
            for chunk in module.chunks:
                module.focus(chunk)
                outputs = model(**module.fold(inputs, groups))
                main = first_output(outputs)
                task = self.task_for(labels, main)
                parts.append(main.unflatten(0, (len(chunk), -1)))
                rows = len(main) // len(chunk)
                rest = other_outputs(outputs, main, ignored)
                others += [rows_of_member(rest, at * rows, rows) for at in range(len(chunk))] if rest else []
                if losses and labels is not None:
                    own = module.fold({"labels": labels}, groups)["labels"]
                    of_members.append(self.losses.of_members(outputs, own, len(chunk), counted=True))
        members = task.outputs(torch.cat(parts).transpose(0, 1))
        each = torch.cat(of_members) if of_members else None
        return Predicted(members, labels, of_all_members(others) if others else (), each)

    def combine_alone(self, steps: Sequence[tuple[Tensor | None, Any, Any]], packed: bool) -> Predicted:
        """The same of members that were computed one by one.

        Args:
            steps: what `Trainer.prediction_step` returns for each: its loss, outputs and labels.
            packed: whether each has its own rows.
        """
        losses = None if steps[0][0] is None else torch.stack([loss for loss, _, _ in steps if loss is not None])
        each = [outputs if isinstance(outputs, tuple) else (outputs,) for _, outputs, _ in steps]
        runs = [labels for _, _, labels in steps[:: self.phases.population.members]]
        labels = runs[0]
        if packed and labels is not None:
            labels = _nested(lambda *rows: torch.cat(rows), *_equally_long(runs))
        if each[0][0] is None:
            return Predicted(None, labels, losses=losses)
        task = self.task_if_known(runs[0], each[0][0])
        others = of_all_members([outputs[1:] for outputs in each]) if len(each[0]) > 1 else ()
        if task is None and len(each) > 1:
            self.find_task()
        firsts = [outputs[0] if task is None else task.outputs(outputs[0]) for outputs in each]
        members = torch.stack(list(_equally_long(firsts)), 1) if isinstance(firsts[0], Tensor) else firsts[0]
        return Predicted(members, labels, others, losses)

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
        loss = self._loss_of_voters(predicted.losses, voters, combine)
        if labels is not None:
            labels = _nested(lambda each: labels_of_models(each, models, runs), labels)  # (B, R, ...)
        task = self.task_if_known(predicted.labels, members) if members is not None else None
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
                loss = loss_of(likely, labels, task, partial(self.losses.of_members, task=lambda: task))
        if loss is not None:
            loss = loss.as_subclass(EachLoss) if self.loss_of_each else loss.mean()
        if models == 1:
            votes = votes[:, 0] if task is not None else votes
            labels = _nested(lambda each: each[:, 0], labels) if labels is not None else None
        outputs = members if self.of_members else votes
        if task is not None and task.of_words:
            outputs, labels = tokens_first(outputs, labels)
        if predicted.others and not self.of_members:
            if models == 1:
                outputs = (outputs, *predicted.others)
            else:
                self._say("other outputs of the model than its first are predicted for one seed, not for several")
        return loss, outputs, labels

    def one_vote(self, inputs: Mapping[str, Any]) -> tuple[Tensor | None, Tensor]:
        """The loss, and what all models predict together, `(B, C)` or `(B, T, C)`: several vote like members."""
        module = self.phases.population.module
        if self.losses.alone:
            predicted = self.combine_alone([self._called(member, dict(inputs)) for member in range(module.size)], False)
        else:
            predicted = self.predict(module, dict(inputs), losses=self.losses.function is not None)
        loss, votes, _ = self.step(replace(predicted, others=()), packed=False)
        if len(self.seeds.seeds) > 1:
            task = self.find_task()
            members = votes.transpose(1, 2) if task.of_words else votes  # (B, R, C) or (B, R, T, C)
            votes = vote(members, self.phases.strategy.combine, task.name)
        return loss, votes

    def _called(self, member: int, inputs: dict[str, Any]) -> tuple[Tensor | None, Any, Any]:
        """The loss, outputs and labels of one member as a plain model that is called with all inputs."""
        labels = self.labels_of(dict(inputs))
        with self.phases.population.module.computing(member) as plain, torch.no_grad():
            outputs = plain(**inputs)
        if labels is None:
            return None, first_output(outputs), None
        if isinstance(outputs, Mapping):
            return outputs["loss"], first_output({key: each for key, each in outputs.items() if key != "loss"}), labels
        return outputs[0], outputs[1], labels

    def _loss_of_voters(
        self, losses: Tensor | None, voters: Sequence[Sequence[int]], combine: Combine
    ) -> Tensor | None:
        """Of each model the mean loss of those members that vote, `(R,)`; None where the vote has the loss."""
        if losses is None:
            return None
        if len(losses) > len(voters):
            self._say("the loss of an evaluation is the mean of the members' losses")
        each = losses.unflatten(0, (len(voters), -1))
        chosen = [each[at, [0] if combine == "parent" else list(who)].mean() for at, who in enumerate(voters)]
        return torch.stack(chosen)

    def _say(self, what: str) -> None:
        """Log it once."""
        if what not in self._said:
            self._said.add(what)
            logger.warning(what)


def _equally_long(tensors: Sequence[Any]) -> Sequence[Any]:
    """Values of tokens of several runs, padded to the longest with -100, as Trainer pads."""
    if not isinstance(tensors[0], Tensor) or tensors[0].dim() < 2:
        return tensors
    longest = max(each.shape[1] for each in tensors)
    return [
        nn.functional.pad(each, [0, 0] * (each.dim() - 2) + [0, longest - each.shape[1]], value=-100)
        for each in tensors
    ]
