"""What a pack of language models generates for the prompts that its cells are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deni.errors import TrainingDivergedError
from deni.tasks import TASKS
from deni.tasks.answers import scores_of
from deni.tasks.generation import SUMS, Generation

if TYPE_CHECKING:
    from deni.data import Texts
    from deni.finetune.generating import GeneratorResult

PREDICTS_NAN = "the run predicts NaN: likely the learning rate is too large"
BATCH = 32  # prompts that are answered at a time


class Answered:
    """The answers of each cell of a population: of its members' vote, and of their mean as one model.

    Args:
        fitted: the population.
        measured: N prompts with the right answers.
        cells: trained in it.
    """

    def __init__(self, fitted: GeneratorResult, measured: Texts, cells: int) -> None:
        tokens, trainer = fitted.reads.tokenized(measured), fitted.trainer
        members = trainer.predict_members(tokens)  # (N, R*K, T, 3)
        self.fitted, self.measured = fitted, measured
        self.models = members.reshape(len(members), cells, -1, *members.shape[2:])
        self.merged: np.ndarray | None = None
        if fitted.recipe.strategy.runs == 1 < trainer.population.members:
            self.merged = trainer.predict_merged(tokens)  # (N, R, T, 3)

    def of(self, at: int, voters: Sequence[int]) -> dict[str, Any]:
        """Fields of `CellResult` of one cell; `voters` are counted within it.

        Raises:
            TrainingDivergedError: NaN.
        """
        recipe, population = self.fitted.recipe, self.fitted.trainer.population
        task, size = TASKS[recipe.task], self.models.shape[2]
        assert isinstance(task, Generation)
        assert self.measured.labels is not None
        outputs = self.models[:, at, voters]  # (N, K, T, 3)
        if np.isnan(outputs).any():
            raise TrainingDivergedError(PREDICTS_NAN)
        votes = task.vote(torch.from_numpy(outputs), recipe.strategy.combine).numpy()
        answers, tokens = self._generated([at * size + voter for voter in voters])
        metrics = {**scores_of(answers, self.measured.labels), **task.scores((), votes)}
        kept: dict[str, Any] = {"log_probs": task.summed(votes)[:, None], "answers": np.asarray(answers, np.str_)}
        if len(voters) > 1:
            metrics |= {f"soft_{task.compared}": metrics[task.compared], "disagreement": tokens}
        if self.merged is not None:
            with population.merged():
                merged, _ = self._generated([at])
            of_mean = self.merged[:, at]
            found = {**scores_of(merged, self.measured.labels), **task.scores((), of_mean)}
            metrics |= {f"merged_{name}": value for name, value in found.items()}
            kept["merged"] = task.summed(of_mean)
        return {**kept, "gold": np.asarray(self.measured.labels, np.str_), "labels": SUMS, "metrics": metrics}

    def _generated(self, members: Sequence[int]) -> tuple[list[str], float]:
        """The answers that these members of the population choose together, and how far they disagree on tokens."""
        prompts: Any = list(self.measured.texts)
        found = self.fitted.generator(members).generate(prompts, batch_size=BATCH)
        shares = [share for each in found for share in each.disagreement]
        return [each.text for each in found], float(np.mean(shares)) if shares else 0.0
