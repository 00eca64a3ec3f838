"""Infers the task of a model as transformers does."""

from __future__ import annotations

from typing import Any

from deni.tasks.base import DEFAULT, TASKS, Task


def task_of(model: Any, labels: Any = None) -> Task:
    """The task of a model: by its class, else `config.problem_type`, else how many outputs and which labels it has.

    Where several tasks have the same outputs, such as classes with and without an order, it is the first of them.

    Args:
        model: with a `config`; its `loss_type` tells word labels.
        labels: a tensor of labels, where there is one; fractions are those of several labels.
    """
    loss_type = getattr(model, "loss_type", None)
    known = list(TASKS.values())
    for task in known:
        if task.loss_type is not None and task.loss_type == loss_type:
            return task
    config = model.config
    if config.problem_type is not None:
        return next((task for task in known if task.problem_type == config.problem_type), TASKS[DEFAULT])
    if config.num_labels == 1:
        return TASKS["regression"]
    return TASKS["multi_label" if labels is not None and labels.is_floating_point() else DEFAULT]
