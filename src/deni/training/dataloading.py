"""Which datasets the runs see, and how rows of several runs, or of several orders, are loaded side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler
from transformers import PretrainedConfig, TrainingArguments

from deni.errors import SettingError
from deni.randomness import Sources, global_generators
from deni.schedule import Schedule
from deni.strategies import Setup, Strategy
from deni.training.batches import InOrder, PackedCollator, PackedDataset, SampleOrder, draw_of
from deni.training.compat import Columns
from deni.training.runs import RunSeeds


@dataclass(frozen=True)
class SeedSets:
    """The datasets of each seed.

    Args:
        train: one for each seed, or None where all share Trainer's.
        eval: the same.
    """

    train: Sequence[Any] | None = None
    eval: Sequence[Any] | None = None

    @classmethod
    def taken_from(
        cls, options: dict[str, Any], strategy: Strategy, args: TrainingArguments, seeds: RunSeeds
    ) -> SeedSets:
        """The lists among the options of a trainer, after the strategy changed the training set of each seed.

        In the options, the first of each list takes its place.

        Raises:
            SettingError: a list that has not one dataset for each seed.
        """
        found: dict[str, Sequence[Any] | None] = {"train": None, "eval": None}
        for name in found:
            datasets = options.get(f"{name}_dataset")
            if isinstance(datasets, list) and datasets and not isinstance(datasets[0], Mapping):
                if len(datasets) != len(seeds.seeds):
                    raise SettingError(
                        f"{name}_dataset is a list of {len(datasets)}, not one for each of {len(seeds.seeds)} seeds"
                    )
                options[f"{name}_dataset"], found[name] = datasets[0], datasets
        before = found["train"] or [options.get("train_dataset")] * len(seeds.seeds)
        evaluates = not isinstance(options.get("eval_dataset"), dict | None)  # of several sets none decides
        tokenizer = options.get("processing_class")
        sources = [seeds.sources_of(run) for run in range(0, seeds.runs, seeds.per_model)]
        prepared = [
            strategy.prepare(Setup(args, each, tokenizer, source, evaluates, seeds.runs)).train
            for source, each in zip(sources, before, strict=True)
        ]
        if any(each is not changed for each, changed in zip(before, prepared, strict=True)):
            options["train_dataset"] = prepared[0]
            found["train"] = prepared if len(seeds.seeds) > 1 else None
        return cls(**found)

    def train_of(self, seed: int, shared: Any) -> Any:
        """The training set of the seed in this place; `shared` where all share it."""
        return shared if self.train is None else self.train[seed]

    def all_train(self, shared: Any) -> Sequence[Any]:
        """The training sets of all seeds; only `shared` where all share it."""
        return self.train or [shared]


class Loading:
    """Loads the rows of several runs side by side.

    Args:
        columns: which columns the model takes.
        sets: the datasets of each seed.
        seeds: of all runs.
        tokenizer: whose padding counts; None for that of the config.
        config: of the model, if it has one.
        whole: keys of labels that have no axis of tokens.
    """

    def __init__(
        self,
        columns: Columns,
        sets: SeedSets,
        seeds: RunSeeds,
        tokenizer: Any,
        config: PretrainedConfig | None,
        whole: Sequence[str],
    ) -> None:
        self.columns, self.sets, self.seeds, self.whole = columns, sets, seeds, whole
        pad = getattr(tokenizer, "pad_token_id", None)
        if pad is None:
            pad = getattr(config, "pad_token_id", None)
        self.padding = {"input_ids": pad or 0, "decoder_input_ids": pad or 0, "labels": -100}
        self.padding_side = getattr(tokenizer, "padding_side", "right")

    def packed(
        self,
        name: Literal["train", "eval"],
        shared: Any,
        order: Callable[[int], Sampler],
        args: TrainingArguments,
        batch_size: int,
        lanes: int = 1,
    ) -> DataLoader:
        """Batches of one row of each run, or of each lane of a run, side by side.

        Args:
            name: which datasets.
            shared: the dataset, where all runs have the same.
            order: makes the sampler for so many rows.
            batch_size: B.
            lanes: how many orders each run's rows come in.
        """
        per_seed = self.sets.train if name == "train" else self.sets.eval
        datasets = per_seed or [shared] * len(self.seeds.seeds)
        if any(isinstance(each, IterableDataset) for each in datasets):
            raise SettingError("several runs, or orders of members' own, need datasets with a length, not streams")
        distinct = {id(each): each for each in datasets}
        lean = {key: self.columns.lean(each, name) for key, each in distinct.items()}
        copies = self.seeds.per_model * lanes
        dataset = PackedDataset([lean[id(each)][0] for each in datasets for _ in range(copies)])
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=order(len(dataset)),
            collate_fn=self.collator(lean[id(datasets[0])][1]),
            drop_last=args.dataloader_drop_last,
            **loader_options(args),
        )

    def train(
        self,
        shared: Any,
        sampler: Callable[[Any], Sampler | None],
        sources: Sequence[Sources],
        args: TrainingArguments,
        lanes: int,
    ) -> tuple[SampleOrder, DataLoader]:
        """The order of rows in a training of several runs, or lanes, and the batches in that order.

        Args:
            shared: the training set, where all runs have the same.
            sampler: what Trainer would order a training set by.
            sources: of each run.
            lanes: how many orders each run's rows come in.

        Raises:
            SettingError: no training set.
        """
        if shared is None:
            raise SettingError("training needs a train_dataset")
        samplers = [sampler(each) for each in self.sets.train or [shared] * len(self.seeds.seeds)]

        def order(rows: int) -> SampleOrder:
            draws = [draw_of(each, rows) for each in samplers for _ in range(self.seeds.per_model)]
            return SampleOrder(rows, sources, lanes, draws)

        loader = self.packed("train", shared, order, args, self.columns.train_batch_size, lanes)
        return cast(SampleOrder, loader.sampler), loader

    def eval(self, asked: Any, shown: Any, args: TrainingArguments) -> DataLoader | None:
        """Batches of the evaluation sets of several seeds; None where another set is asked for, or all share one.

        Args:
            asked: the dataset that is asked for; None for the trainer's own, which Trainer may name explicitly.
            shown: the trainer's own.
        """
        own = self.sets.eval is not None and shown is self.sets.eval[0] and (asked is None or asked is shown)
        if not own or len(self.seeds.seeds) == 1:
            return None
        return self.packed("eval", shown, partial(InOrder, runs=self.seeds.runs), args, args.eval_batch_size)

    def collator(self, collate: Any = None) -> PackedCollator:
        """For batches of several runs, or lanes, where `collate` is for one of them."""
        return PackedCollator(collate, self.padding, self.padding_side, self.whole)

    def choose(
        self, inputs: Mapping[str, Any], lengths: Tensor, runs: int, lanes: int, of_each: int
    ) -> tuple[dict[str, Any], Tensor | None]:
        """The rows that are trained on at a step, and T that each part would have alone, where there are several.

        Args:
            inputs: a batch of all lanes of all runs.
            lengths: T that each lane would have alone.
            runs, lanes: R, and how many lanes each run has.
            of_each: how many lanes of each run are trained on: 1, that of the parent, or one for each member.
        """
        chosen = [run * lanes + lane for run in range(runs) for lane in range(of_each)]
        rows, row_lengths = self.collator().choose(inputs, lengths, chosen)
        return rows, row_lengths if len(chosen) > 1 else None

    def rows_of(self, inputs: Mapping[str, Any], lengths: Tensor | None, part: int) -> dict[str, Any]:
        """The rows of one run, or of one lane, as they would be alone; see `choose`."""
        return dict(inputs) if lengths is None else self.collator().choose(inputs, lengths, [part])[0]

    def batch(self, dataset: Any, rows: Iterable[int], what: str) -> dict[str, Any]:
        """Some rows of a dataset as one batch, which no sampler or process divides.

        Args:
            what: the dataset is, for the log: `training` or `evaluation`.
        """
        dataset, collate = self.columns.lean(dataset, what)
        with global_generators():
            return self.columns.prepared(collate([dataset[row] for row in rows]))


def loader_options(args: TrainingArguments) -> dict[str, Any]:
    """What the arguments say of how rows are loaded, as `DataLoader` takes it; the installed version may lack some."""
    names = (
        "num_workers",
        "pin_memory",
        "persistent_workers",
        "prefetch_factor",
        "multiprocessing_context",
        "in_order",
    )
    return {name: getattr(args, f"dataloader_{name}") for name in names if hasattr(args, f"dataloader_{name}")}


def check_order(own: bool) -> None:
    """Refuse an order of rows of the user's own where several runs, or lanes, are loaded."""
    if own:
        raise SettingError(
            "a _get_train_sampler of your own orders the rows of one run: not of several, nor of copies with their own "
            "order"
        )


def lanes_of(schedule: Schedule | None) -> int:
    """How many orders each run's rows come in: one, or one for each member that ever has its own order."""
    return max((phase.members for phase in schedule or () if phase.fork.member_order == "own"), default=1)


def total_steps(args: TrainingArguments, loader: DataLoader) -> int:
    """How many optimizer steps Trainer will count: the last batches of an epoch make a step, also if they are fewer."""
    if args.max_steps > 0:
        return args.max_steps
    steps_per_epoch = max(1, math.ceil(len(loader) / args.gradient_accumulation_steps))
    return math.ceil(args.num_train_epochs * steps_per_epoch)


@contextmanager
def taking_steps(args: TrainingArguments, steps: int | None) -> Iterator[None]:
    """Inside, Trainer takes so many optimizer steps; None for those that its arguments ask for."""
    before = args.max_steps
    args.max_steps = before if steps is None else steps
    try:
        yield
    finally:
        args.max_steps = before
