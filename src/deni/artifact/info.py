"""The contents of `deni.json`: all that predicting needs, and for information how the model was trained."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer

PADDINGS = ("longest", "max_length")


def describe(
    trainer: PopulationTrainer,
    *,
    tuning: Mapping[str, Any],
    recipe: Mapping[str, Any],
    task: str | None = None,
    max_length: int | None = None,
    padding: Literal["longest", "max_length"] = "longest",
    text_pair_column: str | None = None,
    data: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The contents of `deni.json` beyond the weights, for `deni.artifact.save`.

    Predicting needs `vote`, `engine`, `task`, `max_length`, `padding` and `text_pair_column`, and `pooling` and
    `pairs`, which `save` finds on the model. The rest is information: no strategy, tuning or setting is looked up by
    its name when the artifact is loaded.

    Args:
        trainer: the trainer, with its population.
        tuning: `name` and `settings`.
        recipe: other settings, JSON values.
        task: a name of `deni.tasks`; None for the one that the model shows.
        max_length: tokens after which a text is cut; None for the tokenizer's own limit.
        padding: to the longest text of a batch, or all texts to `max_length`.
        text_pair_column: where the second texts were, for a model of pairs.
        data: which texts it was trained and measured on.
        seconds: wall time of the training.
        metrics: of the vote on labeled texts.
    """
    strategy, population = trainer.strategy, trainer.population
    return {
        "vote": {"combine": strategy.combine},
        "engine": population.engine_name,
        **({} if task is None else {"task": task}),
        "max_length": max_length,
        "padding": padding,
        "text_pair_column": text_pair_column,
        "strategy": {"name": strategy.name, "settings": strategy.settings()},
        "tuning": dict(tuning),
        "recipe": dict(recipe),
        "seeds": trainer.seeds,
        "source_seeds": trainer.source_seeds,
        "data": dict(data or {}),
        "schedule": str(trainer.schedule or ""),
        "member_steps": trainer.member_steps,
        "seconds": None if seconds is None else round(seconds, 1),
        "metrics": dict(metrics or {}),
        "diagnostics": {
            "why_loop": plan.reason if (plan := trainer.engine_plan) else "",
            "failures": [str(failure) for failure in trainer.failures],
            "forks": [record.summary() for record in trainer.diagnostics.records],
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
        },
    }
