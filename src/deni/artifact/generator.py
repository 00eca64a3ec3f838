"""A trained population of language models as what answers prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from deni.data import Texts
from deni.errors import InputError
from deni.generation.generator import Answer, Generator, Prompt
from deni.generation.likelihood import likelihoods
from deni.models.architectures import has_encoder
from deni.models.hugging_face import config_of
from deni.models.loading import limit_of
from deni.models.prompts import Prompting, answer_rows, encoded
from deni.population import Population
from deni.tasks import TASKS
from deni.tasks.answers import Score, scores_of

MOST_NEW_TOKENS = 128  # of an answer, where the training does not say


class GeneratesError(InputError, AttributeError):
    """Something of a model that labels texts is asked of one that generates."""


class TextGenerator(Generator):
    """A trained population of language models: `generate` answers prompts.

    Args:
        population: the members.
        tokenizer: of the model.
        info: the content of `deni.json`.
        source: the folder that it was loaded from, for messages; None for one that was trained here.

    Attributes:
        max_length: tokens of a prompt and its answer in training, or as many as the model reads where that is not
            known; a longer prompt of a causal model loses its first tokens.
        max_new_tokens: of the longest answer in training, and so of an answer, unless more are asked for.
    """

    progress = False

    def __init__(
        self,
        population: Population,
        tokenizer: PreTrainedTokenizerBase,
        info: Mapping[str, Any],
        source: str | Path | None = None,
    ) -> None:
        self.population, self.info, self.source, self.task = population, dict(info), source, info["task"]
        config = config_of(population.model)
        # None where `PopulationTrainer` was given tokens: nobody said which texts it is for.
        self.max_length: int = info["max_length"] or limit_of(config, tokenizer)
        self.max_new_tokens: int = info.get("generation", {}).get("max_new_tokens", MOST_NEW_TOKENS)
        causal = not has_encoder(config)
        self.prompting = Prompting(tokenizer, causal, self.max_length)
        encode: Any = self.prompting.prompt
        super().__init__(population, tokenizer, encode)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        where = self.__dict__.get("source") or "the model"
        raise GeneratesError(f"{where} generates texts and labels none, so it has no {name}: use generate")

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int | None = None, **options: Any) -> list[Answer]:
        """Generate an answer to each prompt, see `deni.generation.generator.Generator.generate`.

        Args:
            max_new_tokens: of an answer, at most; None for those of the longest answer in training.
            options: see there.
        """
        return super().generate(prompts, max_new_tokens=max_new_tokens or self.max_new_tokens, **options)

    def evaluate(self, texts: Texts, *, progress: bool = False, score: Score | None = None) -> dict[str, float]:
        """Metrics of the answers that the vote generates, greedily, and of the tokens of the right ones.

        Args:
            texts: prompts with the right answers.
            score: a function of the user's own, of generated and right answers, whose scores are added.

        Raises:
            InputError: an answer that does not fit into `max_length`.
        """
        assert texts.labels is not None
        rows = answer_rows(texts, encoded(texts, self.prompting), self.prompting)
        prompts: Any = list(texts.texts)
        answers = [each.text for each in self.generate(prompts, progress=progress)]
        task = TASKS[self.task]
        votes = likelihoods(self.population, self.prompting.tokenizer, rows, task, self.info["vote"]["combine"])
        return {**scores_of(answers, texts.labels, score), **task.scores((), votes)}

    def __call__(self, prompts: Prompt | Sequence[Prompt], **options: Any) -> Any:
        """The answer to a prompt, or to each of several, as texts."""
        if isinstance(prompts, str):
            return self.generate([prompts], **options)[0].text
        several: Any = list(prompts)
        return [each.text for each in self.generate(several, **options)]
