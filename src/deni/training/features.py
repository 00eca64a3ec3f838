"""Predictions of a run for its labeled examples, before and after training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from transformers import TrainingArguments

from deni.engine.module import in_mode
from deni.errors import SettingError
from deni.population import Population
from deni.progress import track
from deni.training.dataloading import Loading

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer


@torch.no_grad()
def labeled_outputs(
    population: Population,
    member: int,
    batches: Iterable[dict[str, Any]],
    labels_of: Callable[[dict[str, Any]], Tensor | None],
    autocast: Callable[[], AbstractContextManager],
) -> Iterator[tuple[Tensor, Tensor]]:
    """The logits and labels of a member on these batches, in evaluation mode. Nothing is drawn.

    Args:
        batches: of the labeled texts in their order, on the device; see `all_batches`.
        labels_of: the labels of a batch, which has none afterwards.
        autocast: the context of a forward pass.

    Raises:
        SettingError: texts without labels.
    """
    with population.alone(member) as model, in_mode(population.module, training=False):
        for inputs in batches:
            labels = _given(labels_of(inputs))
            with autocast():
                outputs = model(**inputs)
            yield outputs["logits"] if isinstance(outputs, dict) else outputs[0], labels


def _given(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise SettingError("training needs labels: the training set has none")
    return labels


def all_batches(loading: Loading, dataset: Any, args: TrainingArguments, strategy: str) -> Iterator[dict[str, Any]]:
    """All rows of a training set in their order; every process gets all of them.

    Args:
        strategy: who asks, for the message.

    Raises:
        SettingError: a stream.
    """
    if isinstance(dataset, IterableDataset):
        raise SettingError(f"{strategy} looks at all texts at once: not possible with a stream")
    size, rows = args.eval_batch_size, len(dataset)
    for start in track(range(0, rows, size), "labeled examples", unit="batches", shown=not args.disable_tqdm):
        yield loading.batch(dataset, range(start, min(start + size, rows)), "training")


class LabeledOutputs:
    """Predictions of members for the labeled examples of their runs, see `deni.strategies.base.Outputs`."""

    def __init__(self, trainer: PopulationTrainer) -> None:
        self.trainer = trainer

    @property
    def class_weights(self) -> Tensor | None:
        """Of the loss, `(C,)`; None where all classes count alike."""
        return self.trainer.class_weights

    def __call__(self, run: int, member: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of a run, by one of its members."""
        trainer = self.trainer
        at = run * trainer.population.members + member
        labels_of, autocast = trainer.ballots.shown_labels_of, trainer.accelerator.autocast
        return labeled_outputs(trainer.population, at, self._batches(run), labels_of, autocast)

    def labels(self, run: int) -> Iterator[Tensor]:
        """The labels of a run's batches."""
        return (_given(self.trainer.ballots.shown_labels_of(inputs)) for inputs in self._batches(run))

    def _batches(self, run: int) -> Iterator[dict[str, Any]]:
        trainer, strategy = self.trainer, self.trainer.strategy
        dataset = trainer.sets.train_of(run // strategy.runs, trainer.train_dataset)
        return all_batches(trainer.loading, dataset, trainer.args, strategy.name)
