"""Fine-tuning of language models that generate: what they read, and what they are measured by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from deni.data import Texts
from deni.errors import SettingError
from deni.finetune.making import Reads
from deni.finetune.result import FineTuneResult
from deni.models.architectures import has_encoder
from deni.models.loading import check_generator
from deni.models.prompts import Prompting, check_template, encoded, longest_answer, longest_rows
from deni.recipe import Recipe
from deni.tasks import TASKS
from deni.tasks.answers import Score, scores_of

if TYPE_CHECKING:
    from deni.artifact.generator import TextGenerator


def refuse_for_generation(task: str, **given: Any) -> None:
    """Raise SettingError where one of these arguments, by name, is given to a task that generates."""
    if name := next((name for name, value in given.items() if value), None):
        raise SettingError(f"{name} is for models that label texts, not for the task {task}: omit it")


def reads_for(train: Texts, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, limit: int) -> Reads:
    """How a language model reads these prompts, and what is cut; the tokenizer pads on the right from now on.

    Raises:
        InputError: conversations without a chat template, rows that no tokens can be made of, or that do not fit.
    """
    causal = not has_encoder(check_generator(recipe.model))
    check_template(tokenizer, train, recipe.model)
    if causal:
        tokenizer.padding_side = "right"  # in training; what generates pads on the left
    rows = encoded(train, Prompting(tokenizer, causal, limit))
    longest = longest_rows(rows, recipe.max_length, limit)
    return Reads(tokenizer, [], longest, None, Prompting(tokenizer, causal, longest), longest_answer(rows))


@dataclass(frozen=True)
class AnswerEvaluation:
    """Generated answers of a trained population, and their metrics.

    Args:
        texts: N prompts with the right answers.
        answers: what the members' vote generates for each.
        metrics: of the answers, and of the tokens of the right ones.
        disagreement: mean over all tokens of the answers of the share of members whose likeliest token is another one.
    """

    texts: Texts
    answers: list[str]
    metrics: dict[str, float]
    disagreement: float = math.nan


@dataclass
class GeneratorResult(FineTuneResult):
    """A trained population of language models.

    Args:
        reads: how it reads prompts.
    """

    reads: Reads = field(kw_only=True)

    def __post_init__(self) -> None:
        self.added["generation"] = {"max_new_tokens": self.reads.longest_answer}

    def generator(self, members: Sequence[int] | None = None) -> TextGenerator:
        """The population as what generates answers.

        Args:
            members: those that vote, of one model; None for all whose runs have not failed.
        """
        from deni.artifact.generator import TextGenerator

        population, voters = self.trainer.population, self.voters if members is None else members
        chosen = population if voters is None else population.part(voters)
        return TextGenerator(chosen, self.tokenizer, self.info())

    def classifier(self, progress: bool = False) -> Any:
        raise SettingError(f"a model of {self.recipe.task} generates texts, it labels none: use generator()")

    def note_diverged(self, texts: Texts) -> None:
        members = self.trainer.predict_members(self.reads.tokenized(texts.select(range(min(8, len(texts))))))
        finite = ~np.isnan(members).any((0, 2, 3))
        self.trainer.failures.note_members(finite.tolist(), self.trainer.runs, self.trainer.state.global_step - 1)

    def test(self, texts: Texts, progress: bool = False, score: Score | None = None) -> Any:
        """The answers that the vote generates, greedily, for prompts with the right answers; and their metrics.

        Args:
            score: a function of the user's own, of generated and right answers, whose scores are added.
        """
        assert texts.labels is not None
        votes = self.trainer.predict(self.reads.tokenized(texts)).predictions
        metrics = TASKS[self.recipe.task].scores((), np.asarray(votes))
        prompts: Any = list(texts.texts)
        found = self.generator().generate(prompts, progress=progress)
        answers, tokens = [each.text for each in found], [share for each in found for share in each.disagreement]
        metrics = {**scores_of(answers, texts.labels, score), **metrics}
        return AnswerEvaluation(texts, answers, metrics, float(np.mean(tokens)) if tokens else math.nan)

    def evaluate(self, texts: Texts, progress: bool = False, score: Score | None = None) -> dict[str, float]:
        """Metrics of the vote, see `test`."""
        return self.test(texts, progress, score).metrics
