"""What a population says and how good that is: `transformers.Trainer` whose predictions are the votes of members."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer
from transformers.trainer_utils import PredictionOutput

from deni.population import Population
from deni.randomness import global_generators
from deni.strategies import Strategy
from deni.tasks import Task
from deni.tasks.voting import SEVERAL, TOKENS, member_outputs, problem_of, vote
from deni.training.batches import LENGTHS
from deni.training.failures import Failures
from deni.training.losses import losses_by, member_losses, problem_type

# Texts times members of one forward pass on a processor; measured with MiniLM, 50 members: 400 rows take half the time
# of 3,200, and less than 800.
ROWS = 400


class VotingTrainer(Trainer):
    """Predicts with a population in place of one model, and measures it: what `PopulationTrainer` is beside training.

    Attributes:
        strategy: how members vote.
        seeds: of the models that are trained side by side, R.
        failures: runs whose members have no vote.
        class_weights: weight of each class in the loss, `(C,)`.
    """

    strategy: Strategy
    population: Population
    seeds: list[int]
    failures: Failures
    class_weights: Tensor | None = None
    task: Task | None = None  # what a text has, where somebody says it
    _members_wanted = False  # what every member says in place of their vote

    @property
    def runs(self) -> int:
        """R: independent runs, of all seeds."""
        return len(self.seeds) * self.strategy.runs

    def _frozen(self) -> set[int]:
        return self.failures.runs

    # ---- losses ------------------------------------------------------------------------------------------------------

    def _labels(self, inputs: dict[str, Any]) -> Any:
        found = [inputs.pop(name) for name in self.label_names if inputs.get(name) is not None]
        return found[0] if found else None

    def _problem(self, labels: Tensor | None) -> str:
        """The kind of problem; remembered in the config, as transformers does, once labels have shown it."""
        model, config = self.population.model, self.population.config
        if self.task is not None:
            config.problem_type = self.task.problem_type
            return self.task.name
        if (problem := problem_of(model)) == TOKENS:
            return problem
        # Labels of a loss of the user's own, such as soft ones, show nothing.
        if labels is not None and config.problem_type is None and self.compute_loss_func is None:
            config.problem_type = problem_type(config, labels)
        return problem_of(model)

    def _losses(self, outputs: Any, labels: Tensor, members: int, items: Any = None) -> Tensor:
        """The mean loss of each member, `(M,)`, by the user's loss, label smoothing, or the model's own kind.

        Args:
            items: of one member in the whole batch, for the user's loss; None where they are not counted.
        """
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        if self.compute_loss_func is None and self.label_smoother is None:
            weight = None if self.class_weights is None else self.class_weights.to(logits)
            return member_losses(logits, labels, members, self._problem(labels), weight)
        if self.compute_loss_func is None:
            return losses_by(self.label_smoother, outputs, labels, members)
        return losses_by(partial(self.compute_loss_func, num_items_in_batch=items), outputs, labels, members)

    # ---- predictions -------------------------------------------------------------------------------------------------

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The vote: its loss, what it says `(B, C)`, the labels.

        Of tokens: `(B, T, C)`; `(B, T, R, C)` of several seeds and `(B, T, M, C)` of members: Trainer pads dim 1.
        """
        inputs = dict(self._prepare_inputs(inputs))
        packed = inputs.pop(LENGTHS, None) is not None
        labels = self._labels(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            members = self._member_outputs(model, inputs, packed, labels)  # (B, M, C)
        problem = self._problem(labels)
        models = members.unflatten(1, (len(self.seeds), -1))  # (B, R, K, C)
        votes = torch.stack(
            [
                vote(each[:, self.voters(model)], self.strategy.combine, problem)
                for model, each in enumerate(models.unbind(1))
            ],
            1,
        )  # (B, R, C)
        loss = None
        if labels is not None:
            if packed:  # (R*B, ...) run by run; an ensemble's runs share their rows
                labels = labels.unflatten(0, (self.runs, -1))[:: self.strategy.runs].transpose(0, 1)
            else:
                labels = labels.unsqueeze(1).expand(len(labels), len(self.seeds), *labels.shape[1:])
            folded = labels.transpose(0, 1).flatten(0, 1)
            logits = votes.transpose(0, 1).flatten(0, 1)
            if problem == SEVERAL:  # of infinite log odds, on which all members agree, the loss would be NaN
                logits = logits.nan_to_num(nan=math.nan)
            loss = self._losses({"logits": logits}, folded, len(self.seeds)).mean()
        if prediction_loss_only:
            return loss, None, None
        if len(self.seeds) == 1:
            votes, labels = votes[:, 0], labels[:, 0] if labels is not None else None
        said = members if self._members_wanted else votes
        if problem == TOKENS:
            said = said.transpose(1, 2) if said.dim() == 4 else said
            labels = labels.transpose(1, 2) if labels is not None and labels.dim() == 3 else labels
        return loss, said, labels

    def voters(self, model: int) -> list[int]:
        """The members of a model whose runs are not frozen; all, where none is left."""
        runs, members = self.strategy.runs, self.population.members
        well = [at for at in range(runs * members) if model * runs + at // members not in self._frozen()]
        return well or list(range(runs * members))

    def _member_outputs(self, model: nn.Module, inputs: Mapping[str, Any], packed: bool, labels: Any) -> Tensor:
        """What every member says: `(B, M, C)` or `(B, M, T, C)`, see `deni.tasks.voting.member_outputs`."""
        population = self.population
        parts = []
        for chunk in population.module.chunks:
            population.module.focus(chunk)
            outputs = model(**population.module.fold(inputs, groups=self.runs if packed else 1))
            logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
            parts.append(logits.unflatten(0, (len(chunk), -1)))
        members = torch.cat(parts).transpose(0, 1)
        return member_outputs(members, self._problem(labels))

    def predict_members(self, dataset: Any) -> np.ndarray:
        """What every member says: `(N, M, C)` log probabilities; log odds of several labels; numbers for regression.

        Log probabilities of tokens: `(N, M, T, C)`, padded with -100.
        """
        with self.strategy.predicting(self.population):
            return self._members_say(dataset)

    def predict_merged(self, dataset: Any) -> np.ndarray:
        """What the mean of each run's members says, as one model: `(N, R, C)`, as `predict_members` has it.

        For a population whose training has ended: no optimiser follows.
        """
        with self.strategy.predicting(self.population), self.population.merged():
            return self._members_say(dataset)

    def _members_say(self, dataset: Any) -> np.ndarray:
        self._members_wanted = True
        try:
            return np.asarray(self._predict(dataset, metric_key_prefix="members").predictions)
        finally:
            self._members_wanted = False

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """As `Trainer.evaluate`, by the vote of the members."""
        with global_generators(), self.strategy.predicting(self.population), self._few_rows():
            return super().evaluate(*args, **options)

    def predict(self, *args: Any, **options: Any) -> PredictionOutput:
        """As `Trainer.predict`, by the vote of the members."""
        with self.strategy.predicting(self.population):
            return self._predict(*args, **options)

    @contextmanager
    def _few_rows(self) -> Iterator[None]:
        """Inside, a batch has fewer texts where many members on a processor would make it too large for its caches."""
        batch = self.args.per_device_eval_batch_size
        if self.args.device.type == "cpu":
            self.args.per_device_eval_batch_size = max(1, min(batch, ROWS // self.population.size))
        try:
            yield
        finally:
            self.args.per_device_eval_batch_size = batch

    def _predict(self, *args: Any, **options: Any) -> PredictionOutput:
        """What the population says as it is now."""
        with global_generators(), self._few_rows():
            compute, self.compute_metrics = self.compute_metrics, None if self._members_wanted else self.compute_metrics
            try:
                output = super().predict(*args, **options)
            finally:
                self.compute_metrics = compute
        if self._problem(None) != TOKENS:
            return output
        said, gold = output.predictions, output.label_ids
        return output._replace(
            predictions=_tokens_last(said) if np.ndim(said) == 4 else said,
            label_ids=_tokens_last(gold) if np.ndim(gold) == 3 else gold,
        )


class MeanOverSeeds:
    """Calls the user's `compute_metrics` for each seed and reports the means; `per_run` keeps the single ones."""

    def __init__(self, compute: Callable[[EvalPrediction], dict]) -> None:
        self.compute = compute
        self.per_run: list[dict[str, float]] = []

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        predictions, labels = prediction.predictions, prediction.label_ids
        if predictions.ndim == 4:  # type: ignore[union-attr]  # of tokens
            predictions, labels = _tokens_last(predictions), _tokens_last(labels)
        self.per_run = [
            self.compute(EvalPrediction(predictions[:, run], labels[:, run]))  # type: ignore[index, call-overload]
            for run in range(predictions.shape[1])  # type: ignore[union-attr]
        ]
        return {key: float(np.mean([each[key] for each in self.per_run])) for key in self.per_run[0]}


def _tokens_last(given: Any) -> Any:
    """What `prediction_step` gives of tokens with the axis of seeds or members at its place: `(N, R, T, ...)`."""
    return np.swapaxes(given, 1, 2)
