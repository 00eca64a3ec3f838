"""SimCSE: the vectors of one text under two dropout masks are alike, those of different texts are not.

Of the two unsupervised objectives of `sentence-transformers` it takes what every encoder has. TSDAE (Wang et al. 2021,
arXiv 2104.06979) needs a decoder with cross-attention of the same architecture, which MPNet, DistilBERT or ModernBERT
lack, and a second set of weights.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deni.adaptation.objective import Objective, Row, padded, taken
from deni.engine.module import in_mode
from deni.errors import InputError, SettingError
from deni.models.pooling import Pooling
from deni.randomness import global_generators

SCALE = 20.0  # 1 / the temperature 0.05 of the paper


@dataclass(frozen=True)
class SimCSE(Objective):
    """A contrastive loss of each text and itself among the texts of its batch.

    Args:
        pooling: how the states of tokens become the vector of a text.
    """

    name: ClassVar[str] = "simcse"
    title: ClassVar[str] = "contrastive learning (SimCSE)"
    source: ClassVar[str] = "SimCSE, Gao et al. 2021, arXiv 2104.08821"
    epochs: ClassVar[int] = 3
    batch_size: ClassVar[int] = 64
    learning_rate: ClassVar[float] = 3e-5
    least: ClassVar[int] = 2
    with_dropout: ClassVar[bool] = True

    pooling: Pooling

    @cached_property
    def _ranking(self) -> Any:
        return ranking_loss()(nn.Identity(), scale=SCALE)  # it is given vectors, not texts

    def collate(self, rows: Sequence[Row], seed: int) -> dict[str, Tensor]:
        """The batch; nothing is drawn."""
        return padded(self.tokenizer, rows)

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The mean cross-entropy of finding the second vector of each text among those of the batch."""
        one, other = self.vectors(model, batch).chunk(2)
        return self._ranking.compute_loss_from_embeddings([one, other], None)

    def vectors(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Two vectors of each text, `(2 B, D)`: each row of the batch has its own dropout mask."""
        twice = {name: torch.cat([value, value]) for name, value in batch.items()}
        return self.pooling.vectors(model(**taken(model, twice)), twice["attention_mask"]).float()

    def weight(self, batch: dict[str, Tensor]) -> int:
        """How many texts there are."""
        return len(batch["input_ids"])

    @torch.no_grad()
    def check_dropout(self, model: nn.Module, row: Row, name: str) -> None:
        """Raise SettingError for an encoder without dropout, whose two vectors of a text are one.

        Args:
            row: a text.
            name: of the model.
        """
        with global_generators(0), in_mode(model, training=True):
            one, other = self.vectors(model, self.collate([row], 0))
        if torch.equal(one, other):
            raise SettingError(
                f"model {name!r} has no dropout, by which simcse tells two vectors of a text apart: set one in its "
                "config.json, or take a model with a head for masked language modelling"
            )


def ranking_loss() -> Any:
    """The loss of `sentence-transformers`.

    Raises:
        InputError: the package is not installed.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise InputError('the contrastive objective needs the package sentence-transformers: pip install "deni[adapt]"')
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    return MultipleNegativesRankingLoss
