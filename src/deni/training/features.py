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
from deni.models.feature_cache import cached, enabled, exact, key_of, passes, state_of
from deni.models.products import fast_products
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
            with autocast(), fast_products():
                outputs = model(**inputs)
            yield outputs["logits"] if isinstance(outputs, dict) else outputs[0], labels


def _given(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise SettingError("training needs labels: the training set has none")
    return labels


def all_batches(
    loading: Loading, dataset: Any, args: TrainingArguments, strategy: str, shown: bool = True
) -> Iterator[dict[str, Any]]:
    """All rows of a training set in their order; every process gets all of them.

    Args:
        strategy: who asks, for the message.
        shown: whether to show how many are done.

    Raises:
        SettingError: a stream.
    """
    if isinstance(dataset, IterableDataset):
        raise SettingError(f"{strategy} looks at all texts at once: not possible with a stream")
    size, rows = args.eval_batch_size, len(dataset)
    shown = shown and not args.disable_tqdm
    for start in track(range(0, rows, size), "labeled examples", unit="batches", shown=shown):
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
        """The batches of a run, by one of its members.

        What an untrained model feeds into a layer that passes its input is kept, see `deni.models.feature_cache`.
        """
        trainer = self.trainer
        at = run * trainer.population.members + member
        labels_of, autocast = trainer.ballots.shown_labels_of, trainer.accelerator.autocast
        outputs = labeled_outputs(trainer.population, at, self._batches(run), labels_of, autocast)
        key = self._key(run, at)
        if key is None:
            yield from outputs
            return
        features = cached(key, lambda: list(exact([features for features, _ in outputs])))
        yield from zip(map(torch.from_numpy, features), self.labels(run), strict=True)

    def labels(self, run: int) -> Iterator[Tensor]:
        """The labels of a run's batches."""
        labels_of = self.trainer.ballots.shown_labels_of
        return (_given(labels_of(inputs)) for inputs in self._batches(run, shown=False))

    def weights(self, run: int) -> list[Tensor] | None:
        """How much each row of a run's batches counts; None where all count alike."""
        found = []
        for inputs in self._batches(run, shown=False):
            soft = self.trainer.ballots.soft_of(inputs)
            if soft is None or soft.weights is None:
                return None
            found.append(soft.weights)
        return found

    def _key(self, run: int, at: int) -> str | None:
        """Of what a member feeds into a layer that passes it; None where that is not kept."""
        trainer = self.trainer
        if trainer.state.global_step or not enabled():
            return None
        with trainer.population.alone(at) as model, trainer.accelerator.autocast():
            device = next(model.parameters()).device
            # On a GPU a forward pass over a few hundred texts costs less than a digest of all weights.
            if device.type != "cpu" or not passes(model) or (state := state_of(model)) is None:
                return None
            batches = list(self._batches(run, shown=False))
            for inputs in batches:
                _given(trainer.ballots.shown_labels_of(inputs))  # they decide no features
            return key_of(state, batches, str(device))

    def _batches(self, run: int, shown: bool = True) -> Iterator[dict[str, Any]]:
        trainer, strategy = self.trainer, self.trainer.strategy
        dataset = trainer.sets.train_of(run // strategy.runs, trainer.train_dataset)
        return all_batches(trainer.loading, dataset, trainer.args, strategy.name, shown)
