"""What `deni models` does: encoders compared on the labeled texts of a file, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deni.auto.encoders import EncoderScore, as_record, compare_encoders
from deni.commands.parts import read_parts
from deni.inputs import distinct_models
from deni.recipe import Recipe


@dataclass(frozen=True)
class ModelComparison:
    """Encoders on the labeled texts of a file.

    Args:
        rows: the best first.
        task: of the texts.
        texts: how many there were.
    """

    rows: Sequence[EncoderScore]
    task: str
    texts: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"texts": self.texts, **as_record(self.rows, self.task)}


def compare_models(
    file: str | Path,
    models: Sequence[str],
    *,
    recipe: Recipe,
    device: str | None = None,
    progress: bool = False,
    **parts: Any,
) -> ModelComparison:
    """Compare encoders on the texts that `deni train` would train on.

    Args:
        file: as `deni.commands.train.train_file` takes it.
        models: two or more: `minilm`, folders, or hub ids.
        recipe: how texts are cut and pooled; its model and strategy play no part.
        device: where to compute, see `deni.models.devices.find_device`.
        parts: which texts, as of `deni.commands.parts.read_parts`.
    """
    named = distinct_models(models)
    train, _, _ = read_parts(file, recipe, **parts)
    rows = compare_encoders(train, named, recipe, device=device, progress=progress)
    return ModelComparison(rows, train.task, len(train))
