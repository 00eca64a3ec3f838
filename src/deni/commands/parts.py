"""The texts that `deni train` trains, develops and measures on; importing it loads neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deni.data import Texts, read_data
from deni.data.named_datasets import PAPER_LABELED
from deni.data.partition import HELD_OUT, divide
from deni.randomness import Sources
from deni.recipe import Recipe


def read_parts(
    file: str | Path,
    recipe: Recipe,
    *,
    test: str | None = HELD_OUT,
    test_size: int | None = None,
    dev: str | None = None,
    labelled: int | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    label_order: Sequence[str] = (),
    split: str | None = None,
    config_name: str | None = None,
    block: int = 0,
    preset: str | None = None,
    protocol: str | None = None,
) -> tuple[Texts, Texts | None, Texts | None]:
    """The training, test and dev splits; the arguments are those of `deni.commands.train.train_file`."""
    columns: dict[str, Any] = {
        "text_column": text_column,
        "text_pair_column": text_pair_column,
        "label_column": label_column,
        "label_order": label_order,
        "task": recipe.task,
        "pairs": preset is None or recipe.pairs == "bi",
    }
    texts = read_data(file, **columns, split=split, config_name=config_name)
    if protocol == "paper" and labelled is None and recipe.strategy.most_texts is None:
        labelled = PAPER_LABELED
    return divide(
        texts,
        Sources(block, seeds=recipe.source_seeds),
        test=test,
        test_size=test_size,
        dev=dev,
        labelled=labelled,
        how_many=recipe.strategy.labelled,
        preset=preset,
        columns=columns,
    )
