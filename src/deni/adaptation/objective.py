"""What an encoder learns from texts without labels: how they become batches, and the loss of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from deni.models.hugging_face import accepted_inputs

Row = dict[str, Any]  # of a text: its tokens


@dataclass(frozen=True)
class Objective(ABC):
    """A loss of texts without labels.

    Attributes:
        name: what the option is called.
        title: what it is called in sentences.
        source: who proposed it.
        epochs, batch_size, learning_rate: where nobody says otherwise.
        least: texts of a batch that the loss needs.
        with_dropout: whether the loss on texts held out is computed with dropout, too: where it lives of it.

    Args:
        tokenizer: of the model.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    epochs: ClassVar[int]
    batch_size: ClassVar[int]
    learning_rate: ClassVar[float]
    least: ClassVar[int] = 1
    with_dropout: ClassVar[bool] = False

    tokenizer: PreTrainedTokenizerBase

    def rows(self, texts: Sequence[str], max_length: int) -> list[Row]:
        """The tokens of each text, cut after `max_length`."""
        options = {"truncation": True, "max_length": max_length, "verbose": False}
        tokens = self.tokenizer(list(texts), **options, **self.tokenized_with())
        return [{name: values[row] for name, values in tokens.items()} for row in range(len(texts))]

    def tokenized_with(self) -> dict[str, Any]:
        """Further options of the tokenizer."""
        return {}

    @abstractmethod
    def collate(self, rows: Sequence[Row], seed: int) -> dict[str, Tensor]:
        """A batch of these texts; what it draws depends on the seed alone."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean loss of a batch."""

    @abstractmethod
    def weight(self, batch: dict[str, Tensor]) -> int:
        """How many terms the loss of a batch is the mean of."""


def padded(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row]) -> dict[str, Tensor]:
    """The tokens of texts, padded to the longest one, as tensors `(B, T)`."""
    return dict(tokenizer.pad([dict(row) for row in rows], return_tensors="pt", verbose=False))


def taken(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What of a batch a model takes."""
    accepted = accepted_inputs(model)
    return {name: value for name, value in batch.items() if accepted is None or name in accepted}
