"""Whether a training computes in bfloat16, where its recipe leaves that open."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import torch

from deni.models.devices import find_device
from deni.recipe import Recipe
from deni.tasks import DEFAULT

# What accelerate computes in where a training does not say. transformers 4 leaves the precision of one training there,
# where the next one takes it for the user's, so what was there first is kept.
VARIABLE = "ACCELERATE_MIXED_PRECISION"
_OF_THE_USER = os.environ.get(VARIABLE)


def settle(recipe: Recipe, device: str | torch.device | None = None) -> Recipe:
    """The recipe with `bf16` given: what it was given, else what is known.

    Training computes in bfloat16 where `auto` chose it for one label a text, on a CPU that multiplies bfloat16: it is
    faster there, and its scores are those of float32 (results/precision.md). Nothing else has been compared, so the
    rest is float32: other strategies and tasks, GPUs, and CPUs that only emulate bfloat16, where it is slower. So it is
    where the environment variable ACCELERATE_MIXED_PRECISION is set, which says what to compute in.

    Args:
        recipe: with what `auto` became in `chosen`, if it was asked.
        device: where it will train, see `deni.models.devices.find_device`.

    Raises:
        InputError: a device that is not there.
    """
    if recipe.bf16 is not None:
        return recipe
    chosen = recipe.chosen if recipe.task == DEFAULT and not _OF_THE_USER else None
    if chosen is None or not multiplies_bfloat16(find_device(device)):
        return dataclasses.replace(recipe, bf16=False)
    settings = {**chosen["settings"], "bf16": {"value": True, "from": "auto"}}
    return dataclasses.replace(recipe, bf16=True, chosen={**chosen, "settings": settings})


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether this is a CPU with instructions that multiply bfloat16: AVX512-BF16 or AMX."""
    has: Mapping[str, Any] = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def forget_last_training() -> None:
    """Give the environment variable of accelerate the value that the user gave it."""
    os.environ.pop(VARIABLE, None)
    if _OF_THE_USER is not None:
        os.environ[VARIABLE] = _OF_THE_USER
