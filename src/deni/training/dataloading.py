"""Where rows of a batch come from: `transformers.Trainer` whose batches have rows of several runs, or orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from transformers.trainer_utils import RemoveColumnsCollator

from deni.randomness import global_generators
from deni.schedule import Schedule
from deni.tasks.voting import TOKENS, problem_of
from deni.training.batches import InOrder, PackedCollator, PackedDataset, SampleOrder
from deni.training.voting import VotingTrainer


class PackedTrainer(VotingTrainer):
    """Loads the rows of several runs side by side: what `PopulationTrainer` is between its data and its members.

    Attributes:
        schedule: says whether members see orders of their own; None before training.
    """

    schedule: Schedule | None = None
    _sets: dict[str, Any]  # `train` and `eval`: a dataset for each seed, or None where all share one
    _order: SampleOrder | None = None

    def _schedule(self) -> Schedule:
        assert self.schedule is not None
        return self.schedule

    def _get_train_sampler(self, *args: Any, **options: Any) -> Any:
        """Our order where Trainer would draw a random one from the global generator."""
        theirs = super()._get_train_sampler(*args, **options)
        if not isinstance(theirs, torch.utils.data.RandomSampler):
            return theirs
        self._order = SampleOrder(len(self.train_dataset), self.population.sources[:1])  # type: ignore[arg-type]
        return self._order

    def get_train_dataloader(self) -> DataLoader:
        """One row of each run, or of each lane, side by side where there are several."""
        if self.runs * self._lanes == 1:
            return super().get_train_dataloader()
        if self.train_dataset is None:
            raise ValueError("training needs a train_dataset")
        return self._packed_loader("train", self._train_batch_size)

    @property
    def _lanes(self) -> int:
        """How many orders each run's rows come in: one, or one for each member that ever has an order of its own."""
        phases = self.schedule or ()
        return max((phase.members for phase in phases if phase.fork.member_order == "own"), default=1)

    def own_orders(self, step: int) -> bool:
        """Whether at this optimiser step, counted from 0, each member sees the rows in an order of its own."""
        return self._schedule().at(step).fork.member_order == "own"

    def _rows_of_lanes(self, inputs: Mapping[str, Any], lengths: Tensor) -> tuple[dict[str, Any], Tensor | None]:
        """The rows that are trained on at this step: of the parent's lane of each run, or of one for each member.

        Also T that each would have alone, where there are several.
        """
        of_each = self.population.members if self.own_orders(self.state.global_step) else 1
        lanes = [run * self._lanes + lane for run in range(self.runs) for lane in range(of_each)]
        chosen, own = self._packed_collator(None).choose(inputs, lengths, lanes)
        return chosen, own if len(lanes) > 1 else None

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """One row of each run side by side where each has an evaluation set of its own."""
        own = eval_dataset is None or eval_dataset is self.eval_dataset  # Trainer names its own set explicitly
        if own and self._sets["eval"] is not None and len(self.seeds) > 1:
            return self._packed_loader("eval", self.args.eval_batch_size)
        return super().get_eval_dataloader(eval_dataset)

    def _packed_loader(self, name: str, batch_size: int) -> DataLoader:
        import datasets

        given = self._sets[name] or [self.train_dataset if name == "train" else self.eval_dataset]
        lanes = self._lanes if name == "train" else 1
        per_seed = [given[at % len(given)] for at in range(len(self.seeds)) for _ in range(self.strategy.runs * lanes)]
        collate = self.data_collator
        if isinstance(given[0], IterableDataset):
            raise ValueError("several runs, or orders of members' own, need datasets with a length, not streams")
        if isinstance(given[0], datasets.Dataset):
            lean = {id(dataset): self._remove_unused_columns(dataset, name) for dataset in given}
            per_seed = [lean[id(dataset)] for dataset in per_seed]
        elif self.args.remove_unused_columns:
            collate = RemoveColumnsCollator(collate, self._signature_columns)
        dataset = PackedDataset(per_seed)
        sampler: Any = InOrder(len(dataset), self.runs)
        if name == "train":
            sampler = self._order = SampleOrder(len(dataset), self.population.sources, lanes)
        loader = DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=self._packed_collator(collate),
            drop_last=name == "train" and self.args.dataloader_drop_last,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def collated(self, dataset: Any, rows: Iterable[int], what: str) -> dict[str, Any]:
        """Some rows of a dataset as one batch, which no sampler or process divides.

        Args:
            what: the dataset is, for the log: `training` or `evaluation`.
        """
        collate = self.data_collator
        if hasattr(dataset, "select"):
            dataset = self._remove_unused_columns(dataset, what)
        elif self.args.remove_unused_columns:
            collate = RemoveColumnsCollator(collate, self._signature_columns)
        with global_generators():
            return dict(self._prepare_inputs(collate([dataset[row] for row in rows])))

    def _packed_collator(self, collate: Any) -> PackedCollator:
        """For batches of several runs, or lanes."""
        of_tokens = problem_of(self.population.model) == TOKENS
        return PackedCollator(collate, self._padding(), self._padding_side(), () if of_tokens else self.label_names)

    def _padding(self) -> dict[str, int]:
        pad = getattr(self.processing_class, "pad_token_id", None)
        if pad is None:
            pad = getattr(self.population.config, "pad_token_id", None)
        return {"input_ids": pad or 0, "labels": -100}

    def _padding_side(self) -> str:
        return getattr(self.processing_class, "padding_side", "right")
