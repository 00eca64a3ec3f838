"""What a run says about its labelled texts before it is trained on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.data import IterableDataset
from tqdm import tqdm

from deni.engine.module import in_mode

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer


@torch.no_grad()
def answers(trainer: PopulationTrainer, run: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The logits and labels of all labelled texts of a run, in their order, in evaluation mode, batch by batch.

    Every process asks about all texts, so that all get the same. Nothing is drawn from the sources.

    Raises:
        ValueError: a training set that is a stream, or one without labels.
    """
    sets = trainer._sets["train"] or [trainer.train_dataset]
    dataset = sets[run // trainer.strategy.runs % len(sets)]
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            f"{trainer.strategy.name} looks at all texts before the first step: not possible with a stream"
        )
    size, rows = trainer.args.eval_batch_size, len(dataset)
    starts = tqdm(range(0, rows, size), "labelled texts", disable=trainer.args.disable_tqdm, leave=False)
    population = trainer.population
    with population.alone(run * population.members) as model, in_mode(population.module, training=False):
        for start in starts:
            inputs = trainer.collated(dataset, range(start, min(start + size, rows)), "training")
            labels = trainer._labels(inputs)
            if labels is None:
                raise ValueError(f"training needs labels: the texts have none of {', '.join(trainer.label_names)}")
            trainer._problem(labels)  # the config remembers it
            with trainer.accelerator.autocast():
                outputs = model(**inputs)
            yield outputs["logits"] if isinstance(outputs, dict) else outputs[0], labels
