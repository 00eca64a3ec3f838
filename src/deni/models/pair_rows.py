"""Tokens of pairs whose two texts are encoded separately: both sides lie beside each other, `(T, 2)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import BatchEncoding, DataCollatorWithPadding, PreTrainedTokenizerBase, default_data_collator

from deni.data import Text, Texts
from deni.data.texts import sides
from deni.errors import InputError


def check_pairs(texts: Texts) -> None:
    """Raise InputError for texts that are no pairs."""
    if not texts.pairs:
        raise InputError(
            f"{texts.source}: pairs cannot be bi, each row has one text: give --text-pair-column, or use cross"
        )


def longer_side(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text]) -> list[int]:
    """The tokens of the longer text of each pair, special ones included, nothing cut."""
    both = [tokenizer(side, truncation=False, verbose=False)["input_ids"] for side in sides(texts)]
    return [max(map(len, row)) for row in zip(*both, strict=True)]


def pair_rows(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], max_length: int | None
) -> dict[str, list[list[list[int]]]]:
    """Inputs of pairs, each `(T, 2)`: both sides are padded to the longer one.

    Args:
        max_length: tokens after which each of the two texts is cut.
    """
    both = [tokenizer(side, truncation=True, max_length=max_length, verbose=False) for side in sides(texts)]
    fill = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    left = tokenizer.padding_side == "left"
    return {
        name: [_beside(*row, fill.get(name, 0), left) for row in zip(both[0][name], both[1][name], strict=True)]
        for name in both[0]
    }


def _beside(first: list[int], second: list[int], fill: int, left: bool) -> list[list[int]]:
    length = max(len(first), len(second))
    padding = [[fill] * (length - len(side)) for side in (first, second)]
    both = [more + side if left else side + more for side, more in zip((first, second), padding, strict=True)]
    return [list(place) for place in zip(*both, strict=True)]


@dataclass
class PairCollator:
    """Batches of what `pair_rows` makes: `(B, T, 2)`.

    Args:
        tokenizer, padding, max_length: as `transformers.DataCollatorWithPadding` takes them.
    """

    tokenizer: PreTrainedTokenizerBase
    padding: str = "longest"
    max_length: int | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = [name for name in self.tokenizer.model_input_names if name in rows[0]]
        flat = [
            {name: [place[side] for place in row[name]] for name in names} for side in (0, 1) for row in rows
        ]  # all first texts, then all second ones
        padded = DataCollatorWithPadding(self.tokenizer, self.padding, self.max_length)(flat)
        others = default_data_collator([{key: row[key] for key in row if key not in names} for row in rows])
        # (2B, T) -> (B, T, 2)
        both = {name: padded[name].unflatten(0, (2, -1)).permute(1, 2, 0).contiguous() for name in names}
        return {**both, **others}


def side_by_side(texts: Tensor) -> Tensor:
    """Texts `(B, T)` as pairs of each with itself, `(B, T, 2)`."""
    return texts.unsqueeze(-1).expand(*texts.shape, 2)


def pair_batch(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    max_length: int | None,
    padding: str = "longest",
) -> BatchEncoding:
    """Pairs as one batch `(B, T, 2)`."""
    tokens = pair_rows(tokenizer, texts, max_length)
    rows = [dict(zip(tokens, row, strict=True)) for row in zip(*tokens.values(), strict=True)]
    collate = PairCollator(tokenizer, padding, max_length if padding == "max_length" else None)
    return BatchEncoding(collate(rows))
