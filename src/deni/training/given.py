"""What the user gave a trainer: seeds and datasets, which may be replaced until `train`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainingArguments

from deni.engine.active_tokens import token_ids
from deni.errors import SettingError
from deni.strategies import Strategy
from deni.training.dataloading import SeedSets
from deni.training.runs import RunSeeds

DATASETS = ("train_dataset", "eval_dataset")


class Given:
    """Seeds and datasets as the user gave them, and what is in the trainer in their place.

    Args:
        strategy: it may change the training sets.
        seeds: None for `args.seed`.
        source_seeds: of single sources of randomness; `args.data_seed` is one of them, of the order of rows.
        options: of the trainer.
    """

    def __init__(
        self,
        strategy: Strategy,
        seeds: Sequence[int] | None,
        source_seeds: Mapping[str, int] | None,
        options: Mapping[str, Any],
    ) -> None:
        self.strategy, self.source_seeds = strategy, dict(source_seeds or {})
        self.seeds = None if seeds is None else [int(seed) for seed in seeds]
        self.datasets = {name: options.get(name) for name in DATASETS}
        self.tokenizer = options.get("processing_class")
        self._placed: dict[str, Any] = {}
        self._followed: RunSeeds | None = None

    def run_seeds(self, args: TrainingArguments) -> RunSeeds:
        """The seeds of all runs."""
        order = {} if args.data_seed is None else {"sample_order": args.data_seed}
        return RunSeeds(self.seeds or [args.seed], self.strategy.runs, order | self.source_seeds)

    def place(self, args: TrainingArguments) -> tuple[RunSeeds, SeedSets, Mapping[str, Any]]:
        """The seeds and datasets of all runs, and what Trainer has for its datasets."""
        self._followed = self.run_seeds(args)
        options = {**self.datasets, "processing_class": self.tokenizer}
        sets = SeedSets.taken_from(options, self.strategy, args, self._followed)
        self._placed = {name: options[name] for name in DATASETS}
        return self._followed, sets, self._placed

    def notice(self, args: TrainingArguments, datasets: Mapping[str, Any]) -> bool:
        """Whether the arguments or these datasets are others than when they were placed; remember the datasets."""
        replaced = {name: value for name, value in datasets.items() if value is not self._placed[name]}
        self.datasets |= replaced
        return bool(replaced) or self.run_seeds(args) != self._followed


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
