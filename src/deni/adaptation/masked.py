"""Masked language modelling: tokens are hidden, and the model says which they were."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import DataCollatorForLanguageModeling

from deni.adaptation.objective import Objective, Row, taken
from deni.randomness import derive, global_generators

HIDDEN = 0.15  # of the tokens, as BERT was trained


@dataclass(frozen=True)
class MaskedLanguageModel(Objective):
    """The objective that most encoders were pre-trained with, continued; other tokens are hidden in each epoch."""

    name: ClassVar[str] = "mlm"
    title: ClassVar[str] = "masked language modelling"
    source: ClassVar[str] = "task-adaptive pre-training, Gururangan et al. 2020, arXiv 2004.10964"
    epochs: ClassVar[int] = 20
    batch_size: ClassVar[int] = 32
    learning_rate: ClassVar[float] = 1e-4

    @cached_property
    def _collator(self) -> DataCollatorForLanguageModeling:
        return DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=HIDDEN)

    def tokenized_with(self) -> dict[str, Any]:
        """Which tokens are special ones: none of these is hidden."""
        return {"return_special_tokens_mask": True}

    def rows(self, texts: Sequence[str], max_length: int) -> list[Row]:
        """The tokens of each text; one of special tokens only is left out, since nothing can be hidden in it."""
        return [row for row in super().rows(texts, max_length) if not all(row["special_tokens_mask"])]

    def collate(self, rows: Sequence[Row], seed: int) -> dict[str, Tensor]:
        """The batch with at least one masked token: the loss over none is NaN."""
        for attempt in itertools.count():
            with global_generators(derive(seed, attempt)):  # the collator draws from them
                batch = dict(self._collator([dict(row) for row in rows]))
            if self.weight(batch):
                return batch
        raise AssertionError("unreachable")

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean cross-entropy of the hidden tokens."""
        return model(**taken(model, batch)).loss

    def weight(self, batch: dict[str, Tensor]) -> int:
        """How many tokens are hidden."""
        return int((batch["labels"] != -100).sum())
