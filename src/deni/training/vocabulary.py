"""What the training texts are made of: which tokens, and how many the longest one has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    DefaultDataCollator,
    TrainingArguments,
    default_data_collator,
)

# Optimisers that move each element by its own gradient alone, so that a row without gradient stays where it is.
_ELEMENTWISE = ("adamw_torch", "adamw_torch_fused", "sgd", "rmsprop", "adagrad")
# They leave the ids as they are.
_KNOWN_COLLATORS = (DataCollatorWithPadding, DataCollatorForTokenClassification, DefaultDataCollator)


def moves_own_rows_only(args: TrainingArguments, collator: Any) -> bool:
    """Whether training moves only those rows of the embedding whose tokens are in a training text.

    Args:
        collator: the data collator, also one that removes columns first.
    """
    inner = getattr(collator, "data_collator", collator)
    known = inner is default_data_collator or isinstance(inner, _KNOWN_COLLATORS)
    return args.weight_decay == 0 and args.optim in _ELEMENTWISE and known


def token_ids(datasets: Iterable[Any]) -> Tensor | None:
    """The token ids of all texts, ascending; None where a dataset does not show them, or has none.

    >>> token_ids([[{"input_ids": [7, 3]}], [{"input_ids": [5, 3]}]])
    tensor([3, 5, 7])
    """
    ids: set[int] = set()
    for dataset in datasets:
        columns = getattr(dataset, "column_names", None)
        if columns is not None and "input_ids" in columns:
            rows: Any = dataset["input_ids"]
        elif isinstance(dataset, Sequence) and dataset and isinstance(dataset[0], Mapping):
            rows = [row.get("input_ids", ()) for row in dataset]
        else:
            return None
        for row in rows:
            ids.update(row.tolist() if isinstance(row, Tensor) else row)
    return torch.tensor(sorted(ids)) if ids else None


def most_tokens(dataset: Any) -> int:
    """T of the longest text; 0 where the dataset has no column of token ids."""
    columns = getattr(dataset, "column_names", None)
    if columns is None or "input_ids" not in columns:
        return 0
    return max(map(len, dataset["input_ids"]), default=0)
