"""The active vocabulary of a training: the token ids whose embeddings train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from deni.engine.active_tokens import moves_own_rows_only, token_ids
from deni.errors import SettingError
from deni.training.overrides import overridden

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer


def active_ids_of(trainer: PopulationTrainer) -> Tensor | None:
    """The token ids whose embeddings train; None for all, where leaving some out would not be exact."""
    own = trainer.optimizer_cls_and_kwargs is not None or (trainer.model_init is None and trainer.optimizer is not None)
    own = own or overridden(type(trainer), trainer.losses.base, "create_optimizer", "get_optimizer_cls_and_kwargs")
    own = own or bool(trainer.losses.alone)  # such a loss may see the whole table
    datasets = trainer.sets.all_train(trainer.train_dataset)
    exact = moves_own_rows_only(trainer.args, trainer.data_collator) and trainer.strategy.scope != "trainable"
    return token_ids(datasets) if trainer.wants_active and exact and not own else None


def check_tokens(active: Tensor | None, datasets: Iterable[Any]) -> None:
    """Refuse to go on with a trained population whose active rows do not cover the texts.

    Args:
        active: token ids whose embeddings train; None for all.
        datasets: the training sets.

    Raises:
        SettingError: texts with other tokens, or that do not show them.
    """
    ids = None if active is None else token_ids(datasets)
    if active is not None and (ids is None or not bool(torch.isin(ids, active).all())):
        raise SettingError(
            "this trainer has trained already, on texts without some of these tokens: make a new one, or make it with "
            "active_vocabulary=False"
        )
