"""How the members of a training are computed: by which engine, and whether rows of like length go by themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn
from transformers import TrainingArguments

from deni.engine.probe import divides, why_not_stacked
from deni.population import Population

logger = logging.getLogger(__name__)


def why_loop(
    engine: Literal["auto", "stacked", "loop"], model: nn.Module, inputs: Mapping[str, Any], padding: Mapping[str, int]
) -> str:
    """Why members are computed one after another; empty where they are stacked.

    Args:
        engine: what the user chose.
        model, inputs, padding: see `deni.engine.probe.why_not_stacked`.

    Raises:
        ValueError: `stacked` was chosen, and is not exact.
    """
    if engine == "loop":
        return "asked for"
    reason = why_not_stacked(model, inputs, padding)
    if reason and engine == "stacked":
        raise ValueError(f"this model cannot be stacked: {reason}; use engine='auto' or 'loop'")
    if reason:
        logger.warning(f"members are computed one after another: {reason}")
    return reason


def gains_by_division(population: Population, inputs: Mapping[str, Any], args: TrainingArguments) -> bool:
    """Whether a pack may compute rows of like length in passes of their own, and gains by it.

    A GPU would wait for Python in small passes. In full tuning each pass makes the gradients of whole models:
    measured, it gains nothing. The members of one run gain 8 % on one thread and lose 7 % on four.

    Args:
        population: a stack.
        inputs: a packed batch, padded on the right, without labels.
    """
    trained = sum(value.numel() for value in population.values.values()) / population.size
    total = sum(parameter.numel() for parameter in population.plain().parameters())
    population.restore()
    if 2 * trained > total or args.device.type != "cpu":
        return False
    chunk = population.chunks[0]
    population.focus(chunk)
    training = population.training
    population.train()
    may = divides(population.model, population.fold(inputs, groups=population.runs), len(chunk), population.focus_rows)
    population.train(training)
    return may
