"""The arguments of `transformers.TrainingArguments`, which has other names for them in other versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from transformers import TrainingArguments


def renamed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Training arguments under the names that the installed transformers has for them."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    names = {
        "epochs": "num_train_epochs",
        "warmup_ratio": "warmup_ratio" if "warmup_ratio" in known else "warmup_steps",  # in 5 steps below 1 are a ratio
        "gradient_checkpointing": "activation_checkpointing"
        if "activation_checkpointing" in known
        else "gradient_checkpointing",
    }
    given = {names.get(name, name): value for name, value in arguments.items()}
    return {**given, "warmup_steps": 0} if "warmup_ratio" in given else given  # in 4 steps win over a ratio
