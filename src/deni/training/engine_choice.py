"""How the members of a training are computed: by which engine, and whether rows of like length go by themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from deni.engine.probe import why_not_stacked

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
