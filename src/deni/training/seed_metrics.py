"""The user's metrics of each of several seeds, and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import EvalPrediction

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer


def each_array(function: Callable[[Any], Any], nested: Any) -> Any:
    """The same structure of lists, tuples and dictionaries with the result for each array or tensor in it."""
    if isinstance(nested, list | tuple):
        return type(nested)(each_array(function, each) for each in nested)
    if isinstance(nested, Mapping):
        return {key: each_array(function, each) for key, each in nested.items()}
    return nested if nested is None else function(nested)


class EachLoss(Tensor):
    """The loss of each model on a batch, `(R,)`, which Trainer repeats for each row: then it is `(B, R)`."""

    def repeat(self, rows: int) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor).expand(rows, len(self)).clone()


class OfSeeds:
    """Predictions and labels of several seeds: `(N, R, ...)`, of tokens `(N, T, R, ...)`, since Trainer pads dim 1.

    Args:
        seeds: R.
        by_token: whether the task has labels of tokens.
    """

    def __init__(self, seeds: int, by_token: Callable[[], bool]) -> None:
        self.seeds, self.by_token = seeds, by_token

    def take(self, nested: Any, seed: int) -> Any:
        """Those of one seed, without the axis of seeds."""

        def one(value: Any) -> Any:
            return value[:, :, seed] if self.by_token() and value.ndim > 2 else value[:, seed]

        return each_array(one, nested)

    def join(self, values: list[Any]) -> Any:
        """Tensors of all seeds, each without the axis of seeds, as tensors with it."""
        if isinstance(values[0], list | tuple):
            return type(values[0])(self.join(list(parts)) for parts in zip(*values, strict=True))
        return torch.stack(values, 2 if self.by_token() and values[0].ndim > 1 else 1)


class PreprocessEachSeed:
    """Calls the user's `preprocess_logits_for_metrics` for each seed."""

    def __init__(self, preprocess: Callable[[Tensor, Tensor], Any], of_seeds: OfSeeds) -> None:
        self.preprocess, self.of_seeds = preprocess, of_seeds

    def __call__(self, logits: Any, labels: Any) -> Any:
        take = self.of_seeds.take
        return self.of_seeds.join(
            [self.preprocess(take(logits, seed), take(labels, seed)) for seed in range(self.of_seeds.seeds)]
        )


class MeanOverSeeds:
    """Calls the user's `compute_metrics` for each seed and reports the means; `per_run` keeps the single ones.

    A function that is called batch by batch (`batch_eval_metrics`) keeps what it needs of earlier batches itself; so it
    is called with all batches of the first seed, then of the next, when the last batch is there.
    """

    def __init__(self, compute: Callable[..., dict], of_seeds: OfSeeds) -> None:
        self.compute, self.of_seeds = compute, of_seeds
        self.per_run: list[dict[str, Any]] = []
        self._batches: list[EvalPrediction] = []

    def __call__(self, prediction: EvalPrediction, compute_result: bool | None = None) -> dict[str, Any]:
        if compute_result is None:
            self.per_run = [self.compute(self._of(prediction, seed)) for seed in range(self.of_seeds.seeds)]
            return mean_of_metrics(self.per_run)
        self._batches.append(prediction)
        if not compute_result:
            return {}
        batches, self._batches = self._batches, []
        self.per_run = []
        for seed in range(self.of_seeds.seeds):
            for at, batch in enumerate(batches, 1):
                result = self.compute(self._of(batch, seed), compute_result=at == len(batches))
            self.per_run.append(result)
        return mean_of_metrics(self.per_run)

    def _of(self, prediction: EvalPrediction, seed: int) -> EvalPrediction:
        more = {}
        if prediction.inputs is not None:
            more["inputs"] = prediction.inputs  # all seeds have the same rows, see `arguments`
        if prediction.losses is not None:
            more["losses"] = each_array(lambda losses: losses[:, seed], prediction.losses)  # of (N, R)
        take = self.of_seeds.take
        return EvalPrediction(take(prediction.predictions, seed), take(prediction.label_ids, seed), **more)


def follow_seeds(trainer: PopulationTrainer, by_token: Callable[[], bool]) -> None:
    """Have a trainer with several seeds call the user's functions of metrics for each of them."""
    of_seeds = OfSeeds(len(trainer.seeds), by_token)
    if len(trainer.seeds) > 1 and trainer.compute_metrics is not None:
        trainer.compute_metrics = MeanOverSeeds(trainer.compute_metrics, of_seeds)
        trainer.voting.loss_of_each = "loss" in trainer.args.include_for_metrics
    if len(trainer.seeds) > 1 and trainer.preprocess_logits_for_metrics is not None:
        preprocess = PreprocessEachSeed(trainer.preprocess_logits_for_metrics, of_seeds)
        trainer.preprocess_logits_for_metrics = preprocess


def mean_of_metrics(per_run: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric: of numbers, and element by element of lists of them; anything else of each seed.

    >>> mean_of_metrics([{"f1": 0.5, "of_classes": [1.0, 0.0]}, {"f1": 1.0, "of_classes": [0.0, 0.0]}])
    {'f1': 0.75, 'of_classes': [0.5, 0.0]}
    """
    return {key: _mean([metrics.get(key) for metrics in per_run]) for key in per_run[0]}


def _mean(values: list[Any]) -> Any:
    if isinstance(values[0], dict) and all(isinstance(value, dict) for value in values):
        return mean_of_metrics(values)
    try:
        numbers = [np.asarray(value, dtype=float) for value in values if value is not None]
        mean = np.mean(numbers, axis=0) if len(numbers) == len(values) else None
    except (TypeError, ValueError):  # texts, or lists of different lengths
        mean = None
    if mean is not None and not any(isinstance(value, str) for value in values):
        return float(mean) if mean.ndim == 0 else mean.tolist()
    return values[0] if all(value is None for value in values) else values
