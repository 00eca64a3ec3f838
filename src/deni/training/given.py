"""What the user gave a trainer: seeds and datasets, which may be replaced until `train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments

from deni.engine.active_tokens import deactivate, same_ids
from deni.engine.fold import trainable_slots
from deni.errors import SettingError
from deni.strategies import Strategy
from deni.training.arguments import check_arguments, check_metrics
from deni.training.compat import own_arguments
from deni.training.dataloading import SeedSets
from deni.training.runs import RunSeeds, RunSettings, populate
from deni.training.soft_labels import check_sets, columns_in, shown, shows_columns
from deni.training.vocabulary import active_ids_of, check_tokens

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer

DATASETS = ("train_dataset", "eval_dataset")


class Given:
    """Seeds and datasets as the user gave them, and what is in the trainer in their place.

    Args:
        strategy: it may change the training sets.
        seeds: None for `args.seed`.
        source_seeds: of single sources of randomness; `args.data_seed` is one of them, of the order of rows.
        options: of the trainer.
        settings: of each seed, which then may be equal; none where all runs are alike.

    Raises:
        SettingError: other settings than seeds.
    """

    def __init__(
        self,
        strategy: Strategy,
        seeds: Sequence[int] | None,
        source_seeds: Mapping[str, int] | None,
        options: Mapping[str, Any],
        settings: Sequence[RunSettings] = (),
    ) -> None:
        if settings and len(settings) != len(seeds or [0]):
            raise SettingError(f"run_settings are {len(settings)} for {len(seeds or [0])} seeds: give one for each")
        self.distinct = not settings
        self.strategy, self.source_seeds = strategy, dict(source_seeds or {})
        self.seeds = None if seeds is None else [int(seed) for seed in seeds]
        self.datasets = {name: options.get(name) for name in DATASETS}
        self.tokenizer = options.get("processing_class")
        self._placed: dict[str, Any] = {}
        self._followed: RunSeeds | None = None

    def run_seeds(self, args: TrainingArguments) -> RunSeeds:
        """The seeds of all runs."""
        order = {} if args.data_seed is None else {"sample_order": args.data_seed}
        return RunSeeds(self.seeds or [args.seed], self.strategy.runs, order | self.source_seeds, self.distinct)

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


def take_seeds(trainer: PopulationTrainer, seeds: RunSeeds) -> None:
    """Give a trainer the seeds of all runs, of which its origin tells."""
    trainer.run_seeds, trainer.runs = seeds, seeds.runs
    trainer.seeds, trainer.source_seeds = list(seeds.seeds), dict(seeds.sources)
    trainer.origin |= {"seeds": trainer.seeds, "source_seeds": trainer.source_seeds}


def follow_changes(trainer: PopulationTrainer) -> None:
    """Take over arguments, seeds, datasets and frozen parameters that were changed since a trainer was made.

    Raises:
        SettingError: what cannot be changed any more, or an argument that is refused.
    """
    if trainer.args is not trainer.own_args:
        trainer.args = trainer.own_args = own_arguments(trainer.args, trainer.strategy.arguments())
    check_arguments(trainer.args, trainer.strategy, trainer.runs)
    check_metrics(trainer.args, len(trainer.seeds), trainer.sets.eval is not None)
    changed = trainer.requested.notice(trainer.args, {name: getattr(trainer, name) for name in DATASETS})
    if changed:
        seeds, trainer.sets, placed = trainer.requested.place(trainer.args)
        vars(trainer).update(placed)
        take_seeds(trainer, seeds)
        trainer.fresh.seeds = trainer.voting.seeds = trainer.loading.seeds = seeds
        trainer.loading.sets = trainer.sets
    slots = trainable_slots(trainer.population.model)
    frozen = trainer.model_init is None and trainer.population.slots.keys() != slots.keys()
    if trainer.model_init is None and trainer.phases.optimizer is not None:  # it goes on from what it has trained
        if frozen:
            raise SettingError("parameters were frozen, or freed, after a training: make a new trainer")
        check_tokens(trainer.active_ids, trainer.sets.all_train(trainer.train_dataset))
        return
    ids = active_ids_of(trainer)
    if changed or frozen or not same_ids(ids, trainer.active_ids):
        trainer.active_ids = ids
        if trainer.model_init is None:
            deactivate(trainer.population.model)
            trainer.model = trainer.model_wrapped = populate(trainer, trainer.population.model)


def check_targets(trainer: PopulationTrainer) -> None:
    """Refuse soft targets and weights in the training sets that are wrong, or that the loss cannot read.

    Raises:
        SettingError: see `check_sets` and `Losses.check_soft`.
    """
    losses, datasets = trainer.losses, trainer.sets.all_train(trainer.train_dataset)
    names = columns_in(datasets, losses.soft_columns)
    losses.unseen_soft = len(names) < len(losses.soft_columns) and not all(map(shows_columns, datasets))
    if not names:
        return
    label = next((name for name in (*trainer.label_names, "label") if shown(datasets[0], name) is not None), "labels")
    first = (shown(datasets[0], label) or [])[:1]
    task = trainer.ballots.task.known(torch.tensor(first) if first else None)
    losses.check_soft(names, task)
    outputs = getattr(getattr(trainer.population.model, "config", None), "num_labels", None)
    check_sets(datasets, names, task, outputs, label)
