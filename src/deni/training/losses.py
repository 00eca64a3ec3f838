"""Whose loss a training has, and how much of the batch of a step each part of it counts.

The loss of a member is what `transformers.Trainer` computes for one model. Where it follows from the outputs alone (the
standard loss of the task, label smoothing, `compute_loss_func`), members are computed side by side and each has the
loss of its own rows. Where the model computes it from labels, or the user overrides `compute_loss`, each member is
computed by itself, as the plain model, by the code that Trainer would run.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.utils import ModelOutput

from deni.engine.buffers import kept_buffers
from deni.engine.module import in_mode
from deni.errors import SettingError
from deni.models.hugging_face import accepted_inputs
from deni.population import Population
from deni.randomness import global_generators
from deni.tasks import Task
from deni.tasks.losses import Soft
from deni.training.batches import LENGTHS
from deni.training.compat import count_items, plain_model, shifts_labels
from deni.training.heads import has_head, is_causal, why_own_loss, without_vote
from deni.training.overrides import overridden

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer

STANDARD = ["labels"]  # the only label column that a loss from outputs can have, as Trainer takes it out of the inputs


def first_output(outputs: Any) -> Tensor:
    """The logits of a model's outputs without a loss; where none are called so, the first output."""
    if isinstance(outputs, Mapping):
        return outputs["logits"] if "logits" in outputs else next(iter(outputs.values()))
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def rows_of_member(outputs: Any, at: int, rows: int) -> Any:
    """A member's part of what a model returns for folded inputs, in the same structure."""
    if isinstance(outputs, Tensor):
        return outputs[at : at + rows] if outputs.dim() else outputs
    if isinstance(outputs, Mapping):
        parts = {key: rows_of_member(value, at, rows) for key, value in outputs.items()}
        return type(outputs)(**parts) if isinstance(outputs, ModelOutput) else parts
    if isinstance(outputs, tuple | list):
        return type(outputs)(rows_of_member(value, at, rows) for value in outputs)
    return outputs


def losses_by(
    loss: Callable[..., Tensor], outputs: Any, labels: Tensor, members: int, items: Sequence[Any] | None = None
) -> Tensor:
    """The loss of each member, by a function of the outputs and labels of one model.

    Args:
        loss: called with the outputs and labels of each member.
        outputs: folded, what a model returns.
        labels: folded, see `deni.tasks.Task.member_losses`.
        members: M.
        items: `num_items_in_batch` of each, where the function takes it.

    Returns:
        `(M,)`.
    """
    rows = len(labels) // members
    losses = []
    for member in range(members):
        more = {} if items is None else {"num_items_in_batch": items[member]}
        part = rows_of_member(outputs, member * rows, rows)
        losses.append(loss(part, labels[member * rows : (member + 1) * rows], **more))
    return torch.stack(losses)


def given(soft: Soft | None) -> dict[str, Soft]:
    """The argument for soft targets where there are some; a task of the user's may not know it."""
    return {} if soft is None else {"soft": soft}


def _no_task() -> Task:
    raise RuntimeError("the loss of the task needs the task")


class Losses:
    """The loss of a training.

    Args:
        trainer: whose `compute_loss_func`, label smoother, model and labels decide.
        weight: of each class, `(C,)`.
        task: what the user says a text has; None if nothing.

    Raises:
        SettingError: class weights with another loss.
    """

    def __init__(
        self, trainer: PopulationTrainer, base: type[Trainer], weight: Tensor | None, task: Task | None
    ) -> None:
        self.trainer, self.base, self.weight, self.task = trainer, base, weight, task
        self.unseen_soft = False  # whether soft targets or weights may come that nobody has looked at
        self._returned: bool | None = None  # whether the model returns a loss; None before it was called with labels
        if weight is not None and self.overridden:
            raise SettingError("class_weights cannot be combined with an overridden compute_loss: choose one")
        if weight is not None and (trainer.args.label_smoothing_factor or trainer.compute_loss_func):
            raise SettingError("class_weights cannot be combined with label smoothing or compute_loss_func: choose one")

    @property
    def model(self) -> nn.Module:
        """The plain module, whatever Trainer sees as its model."""
        trainer = self.trainer
        return trainer.population.model if "population" in vars(trainer) else plain_model(trainer)

    @property
    def function(self) -> Callable[..., Tensor] | None:
        """The user's `compute_loss_func`."""
        return self.trainer.compute_loss_func

    @property
    def overridden(self) -> bool:
        """Whether the user's class, or the user, has another `compute_loss`."""
        trainer = self.trainer
        return overridden(type(trainer), self.base, "compute_loss") or "compute_loss" in vars(trainer)

    @property
    def answers(self) -> bool:
        """Whether the loss is that of the answers of a language model, see `deni.engine.answers`."""
        return self.task is not None and self.task.generates

    @property
    def alone(self) -> str:
        """Why each member is computed by itself; empty where the loss follows from outputs and labels."""
        if self.overridden:
            return "compute_loss is overridden"
        if self.answers:
            return ""
        if name := without_vote(self.model):
            return f"predictions of {name} have no vote"
        if self.weight is not None or (self.task is not None and self.task.own_loss):
            return ""
        if self.function is not None or self.trainer.label_smoother is not None:
            if not (has_head(self.model) or hasattr(getattr(self.model, "config", None), "num_labels")):
                return f"what {type(self.model).__name__} predicts is not known"
            wanted = self.trainer.label_names
            return "" if wanted == STANDARD else f"the labels are {', '.join(wanted) or 'not named'}"
        return "" if self._returned is False else why_own_loss(self.model)

    @property
    def soft_columns(self) -> tuple[str, ...]:
        """The columns of soft targets and weights that the loss reads, see `deni.training.compat.Columns.soft`."""
        return self.trainer.columns.soft

    def check_soft(self, columns: Container[str], task: Task | None = None, alone: str = "") -> None:
        """Refuse soft targets, or weights of rows, where the loss of the training cannot read them.

        Args:
            columns: that there are.
            task: None where it is not known.
            alone: why each member is computed by itself, where that is known already.

        Raises:
            SettingError: another loss.
        """
        found = " and ".join(name for name in self.soft_columns if name in columns)
        if not found:
            return
        if self.function is not None or self.trainer.label_smoother is not None:
            other = "label smoothing" if self.function is None else "compute_loss_func"
            raise SettingError(f"{found} cannot be combined with {other}: choose one, or remove the column")
        if self.overridden:
            raise SettingError(
                f"{found} cannot be combined with an overridden compute_loss: remove the column, or read it there "
                "(remove_unused_columns=False)"
            )
        if why := alone or ("" if self.answers else without_vote(self.model)):
            why = why if alone else f"predictions of {why} have no vote"
            raise SettingError(f"{found} need a loss that follows from outputs and targets, and {why}")
        if task is not None and not task.takes_soft:
            raise SettingError(
                f"the loss of task {task.name} does not take {found}: remove the column, or choose another"
            )

    @torch.no_grad()
    def look(self, population: Population, batch: Mapping[str, Any]) -> None:
        """Find out whether a model of the user's own returns a loss; one that does not has the task's.

        Args:
            batch: on the device; without labels it shows nothing.
        """
        names = [name for name in self.trainer.label_names if batch.get(name) is not None]
        known = self._returned is not None or not self.alone
        if known or not names or self.overridden or without_vote(self.model):
            return
        rows = {key: each[:2] if isinstance(each, Tensor) and each.dim() else each for key, each in batch.items()}
        left_out = (LENGTHS, *self.soft_columns)
        accepted = accepted_inputs(self.model)
        if accepted is not None and not accepted.intersection(names):
            self._returned = False
            return
        with population.plain() as model, kept_buffers(model), in_mode(model, training=False), global_generators():
            try:
                outputs = model(**{name: value for name, value in rows.items() if name not in left_out})
            except Exception:  # it shows when the training computes it
                return
        self._returned = not isinstance(outputs, Mapping) or outputs.get("loss") is not None

    def of_members(
        self,
        outputs: Any,
        labels: Tensor,
        members: int,
        task: Callable[[], Task] = _no_task,
        counted: bool = False,
        soft: Soft | None = None,
    ) -> Tensor:
        """The mean loss of each member `(M,)`, where members are computed side by side.

        Args:
            outputs, labels, members: see `losses_by`.
            task: gives the task, where the loss is that of the task.
            counted: whether the user's function gets `num_items_in_batch`.
            soft: targets and weights of the rows, folded, where the loss is that of the task.
        """
        if self.function is not None:
            each = labels.unflatten(0, (members, -1)).unbind(0)
            items = [self.items({"labels": own}) if counted else None for own in each]
            losses = losses_by(self.function, outputs, labels, members, items)
            return losses * self.trainer.args.world_size if counted and self._averages_tokens else losses
        if self.trainer.label_smoother is not None:
            shift = {"shift_labels": True} if is_causal(self.model) else {}
            return losses_by(partial(self.trainer.label_smoother, **shift), outputs, labels, members)
        logits = first_output(outputs)
        weight = None if self.weight is None else self.weight.to(logits)
        losses = task().member_losses(logits, labels, members, weight, **given(soft))
        share = self._of_processes(labels, members) if counted and self.answers else None
        return losses if share is None else losses * share.to(losses)

    def _of_processes(self, labels: Tensor, members: int) -> Tensor | None:
        """What a member's mean loss is multiplied by, so that the tokens of all processes count alike, `(M,)`."""
        if not self._of_all_processes:
            return None
        each = labels.unflatten(0, (members, -1)).unbind(0)
        alone = [self._labels_that_count(own).ne(-100).sum() for own in each]
        of_all = [torch.as_tensor(self.items({"labels": own})) for own in each]
        return torch.stack(alone).double() / torch.stack(of_all).to(labels.device) * self.trainer.args.world_size

    def _labels_that_count(self, labels: Tensor) -> Tensor:
        """Without the first token, which nothing predicts in a causal language model."""
        return labels[..., 1:] if is_causal(self.model) else labels

    @property
    def _of_all_processes(self) -> bool:
        """Whether tokens of answers are counted in all processes."""
        return self.answers and self._averages_tokens and self.trainer.args.world_size > 1

    @property
    def _averages_tokens(self) -> bool:
        """Whether items are those of all processes, of whose losses the mean is taken."""
        return self.trainer.args.average_tokens_across_devices

    @property
    def _smooths_by_itself(self) -> bool:
        """Whether label smoothing divides by its own count of labels, as in transformers 4."""
        smoother = self.trainer.label_smoother
        return (
            smoother is not None and "num_items_in_batch" not in inspect.signature(type(smoother).__call__).parameters
        )

    def items(self, rows: Mapping[str, Any]) -> Any:
        """`num_items_in_batch` of one model's rows, as Trainer counts them; None where it does not."""
        return count_items(self.trainer, rows)

    def counts(
        self, rows: Mapping[str, Any], labels: Any, task: Callable[[], Task], soft: Soft | None = None
    ) -> Tensor:
        """How much a member's rows count among all of a step, a scalar.

        Args:
            rows: of one model, with the labels.
            labels: of these.
            task, soft: see `of_members`.
        """
        alone = self.alone
        counted = (
            self.function is not None
            or self._of_all_processes
            or (alone and (self.overridden or not self._smooths_by_itself))
        )
        if counted and (items := self.items(rows)) is not None:
            return torch.as_tensor(items)
        if not isinstance(labels, Tensor):
            return torch.tensor(len(next(value for value in rows.values() if isinstance(value, Tensor))))
        if self.answers:
            return task().items(self._labels_that_count(labels)).sum()
        if not alone and self.function is None and self.trainer.label_smoother is None:
            weight = None if self.weight is None else self.weight.to(labels.device)
            return task().items(labels, weight, **given(soft)).sum()
        if labels.is_floating_point() or not labels.dim():
            return torch.tensor(len(labels) if labels.dim() else 1)
        return (labels[..., 1:] if shifts_labels(self.trainer, self.model) else labels).ne(-100).sum()


class Parts:
    """The batch of an optimizer step, which may come in parts (gradient accumulation): all its rows count alike.

    A member's loss on a part is that of the part as a batch of its own, times the share that the part has of the rows,
    tokens, or weights of the whole batch: the shares of a step add up to 1.

    Attributes:
        shares: what the part under way is of the step, for each group of rows; None where it is all of it.
        factor: what a loss is multiplied by before it is differentiated.
    """

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.shares: Tensor | None = None
        self.factor: Tensor | None = None
        self._counts: list[Tensor] = []

    def begin(self, batches: Sequence[Any]) -> None:
        """The batch of a step comes in these parts."""
        self.batches, self._counts = list(batches), []

    @contextmanager
    def under_way(self, part: Any, count: Callable[[Any], Tensor]) -> Iterator[None]:
        """Inside, this part is computed.

        Args:
            part: one of those that `begin` named, itself; any other is a whole batch.
            count: how much a part counts, for each group of its rows.
        """
        place = next((at for at, each in enumerate(self.batches) if each is part), None)
        if len(self.batches) > 1 and place is not None:
            self._counts = self._counts or [count(each).double() for each in self.batches]
            total = torch.stack(self._counts).sum(0)
            self.shares = self._counts[place] / torch.where(total > 0, total, 1)
        try:
            yield
        finally:
            self.shares = None

    def share(self, group: int) -> Tensor | None:
        """Of the part under way, for a group of rows; None where it is the whole batch."""
        return None if self.shares is None else self.shares[group]

    def shared(self, losses: Tensor, focus: range, size: int) -> Tensor:
        """What the losses of members in focus on the part under way add to those of the batch.

        Args:
            size: M, all members.
        """
        if self.shares is None:
            return losses
        groups = [member * len(self.shares) // size for member in focus]
        return losses * self.shares[groups].to(losses)

    @contextmanager
    def weighing(self, group: int) -> Iterator[Tensor | None]:
        """Inside, losses of the part under way are weighed as those of this group of rows; gives the share."""
        self.factor = self.share(group)
        try:
            yield self.factor
        finally:
            self.factor = None

    def weigh(self, loss: Tensor) -> Tensor:
        """A loss as it is differentiated."""
        return loss if self.factor is None else loss * self.factor.to(loss)
