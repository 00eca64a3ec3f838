"""What a text has in a training: as the user says, as the class of the model says, or as labels show."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from deni.errors import SettingError
from deni.models.hugging_face import hugging_face, unwrapped
from deni.tasks import Task, find_task, task_of
from deni.training.heads import generates, has_head, language_model, takes_soft_labels, without_vote
from deni.training.losses import Losses, first_output


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

    >>> import torch
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


def check_generation(losses: Losses) -> None:
    """Raise SettingError where a task that generates has another model, or another loss than its own."""
    name, model = losses.task.name if losses.task else "", losses.model
    if other := next((part.name for part in losses.trainer.strategy.parts if not part.generates), None):
        raise SettingError(f"{other} is for models that label texts, not for the task {name}: choose another")
    if not generates(model):
        raise SettingError(
            f"task {name} needs a causal or encoder-decoder language model (AutoModelForCausalLM or "
            f"AutoModelForSeq2SeqLM), not {type(unwrapped(model)).__name__}"
        )
    if losses.function is not None or losses.trainer.label_smoother is not None:
        other = "compute_loss_func" if losses.function is not None else "label smoothing"
        raise SettingError(f"task {name} has its own loss, not {other}: omit the task, or that")


class TrainingTask:
    """The task of a training.

    Args:
        losses: of the members; whose model it is, and what the user says of its task.

    Raises:
        SettingError: a language model has none of these tasks.
    """

    def __init__(self, losses: Losses) -> None:
        self.losses = losses
        if losses.answers:
            check_generation(losses)
        elif losses.task is not None and (name := language_model(losses.model)):
            raise SettingError(
                f"task cannot be {losses.task.name!r}: {name} is a language model, whose predictions have no vote; "
                "omit task, and it trains as with Trainer"
            )
        self._shown: Task | None = None  # by labels, where the class of the model says nothing

    def known(self, labels: Any = None, outputs: Tensor | None = None) -> Task | None:
        """The task; None where predictions have no vote, or where nothing has shown yet how they vote.

        Args:
            labels: of a batch; of a loss of the user's own, such as soft ones, they show nothing.
            outputs: of the model for it.
        """
        model, given = self.losses.model, self.losses.task
        if given is None and without_vote(model):
            return None
        labels = labels if self.losses.function is None else None
        if self.losses.answers:
            return given
        if has_head(model) or (given is not None and hasattr(model, "config")):
            shown = labels if isinstance(labels, Tensor) else None
            self._check_soft(model, shown)
            return task_shown_by(shown, model, given)
        config = getattr(model, "config", None)
        if getattr(config, "problem_type", None) is not None:
            return task_of(model)
        if given is None and self._shown is None and outputs is not None:
            self._shown = task_fitting(labels, outputs)
        default = task_of(model) if hasattr(config, "num_labels") else None
        return given or self._shown or default

    def _check_soft(self, model: nn.Module, labels: Tensor | None) -> None:
        if labels is None or not labels.is_floating_point() or labels.dim() < 2 or labels.shape[-1] == 1:
            return
        unsaid = self.losses.task is None and hugging_face(model).config.problem_type is None
        if unsaid and self.losses.weight is None and not self.losses.alone and takes_soft_labels(model):
            raise SettingError(
                f"fractions as labels are probabilities of classes to {type(model).__name__}, whose loss is not "
                "computed here: set problem_type of its config, such as 'multi_label_classification', or give "
                "compute_loss_func"
            )

    def find(self, labels: Any = None, outputs: Any = None) -> Task:
        """The task, see `known`.

        Args:
            outputs: whatever the model returns.

        Raises:
            SettingError: there is none.
        """
        task = self.known(labels, None if outputs is None else first_output(outputs))
        if task is None:
            model = self.losses.model
            if name := without_vote(model):  # of no task that generates
                raise SettingError(
                    f"predictions of {name} have no vote: members of a model for sequence "
                    "or token classification vote; evaluate() gives their mean loss, and trainer.model.save_pretrained "
                    "saves one model"
                )
            raise SettingError(f"what {type(model).__name__} predicts is not known: give the trainer its task")
        return task

    @property
    def by_token(self) -> bool:
        """Whether predictions are known to be of tokens."""
        task = self.known()
        return task is not None and task.by_token
