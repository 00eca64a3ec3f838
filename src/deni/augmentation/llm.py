"""Paraphrases by a language model behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import click
import numpy as np

from deni.augmentation.answers import Answers
from deni.augmentation.base import Augmenter
from deni.augmentation.chat import Chat
from deni.augmentation.paraphrases import NEEDED, PROMPT, in_answer, question
from deni.errors import InputError, SettingError

ASKS = 3  # of one text: a model that has not given n paraphrases by then has no more
CHARACTERS = 4  # of a token, for the estimate: about that of English
QUOTES = 3  # tokens around a string of a JSON list


@dataclass(frozen=True)
class LLM(Augmenter):
    """Ask a language model for n paraphrases of each text, in one request.

    Its answers are stored on disk, and the same request is never paid twice; another seed asks anew. An answer that
    is not a list, or has too few usable paraphrases, is requested again, at most twice; the rest stays missing.

    The key comes from the environment variable OPENAI_API_KEY; local servers mostly need none.

    Args:
        llm_model: the model, as the server names it.
        base_url: address of an OpenAI-compatible server, such as http://localhost:8000/v1; else OPENAI_BASE_URL, else
            that of OpenAI.
        temperature: temperature of the answers, at least 0; higher gives more varied paraphrases. Unset leaves the
            server's own.
        prompt: what the model is told, with {text} and {n} in it, and {label} if it is to know the label. The answer
            must be a JSON list of strings.
        max_retries: how often a request is sent again after 429, 5xx, a time-out or a lost connection.
        timeout: seconds until an answer must begin or go on.
        requests_per_minute: send at most so many, those sent again among them.
        concurrency: requests under way at one time.
        price_input: price of a million input tokens, for the estimate.
        price_output: price of a million output tokens.
        cache: folder of the stored answers.
        yes: send the requests without a question; needed without a terminal to ask on.
    """

    name: ClassVar[str] = "llm"
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"max_retries", "timeout", "requests_per_minute", "concurrency", "price_input", "price_output", "cache", "yes"}
    )

    llm_model: str | None = None
    base_url: str | None = None
    temperature: float | None = None
    prompt: str = PROMPT
    max_retries: int = 5
    timeout: float = 120
    requests_per_minute: float | None = None
    concurrency: int = 4
    price_input: float | None = None
    price_output: float | None = None
    cache: str = "~/.cache/deni"
    yes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        lost = [each for each in NEEDED if each not in self.prompt]
        if lost:
            raise SettingError(f"the prompt lacks {lost[0]}: it needs {' and '.join(NEEDED)}")
        for field in ("temperature", "max_retries", "price_input", "price_output"):
            value = getattr(self, field)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise SettingError(f"{field} must be at least 0, not {value}")
        for field in ("timeout", "requests_per_minute", "concurrency"):
            value = getattr(self, field)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(f"{field} must be above 0, not {value}")

    @property
    def batch(self) -> int:  # type: ignore[override]
        """Large enough to keep most request slots busy until the last answers of a batch."""
        return 8 * self.concurrency

    def start(self, texts: Sequence[str], labels: Sequence[str], n: int, seed: int) -> None:
        """Show the estimated cost, and ask for confirmation."""
        self._chat.seed = seed
        firsts = [question(self.prompt, text, label, n) for text, label in zip(texts, labels, strict=True)]
        asked = [i for i, first in enumerate(firsts) if self._chat.known(first, 0) is None]
        if not asked:
            return
        tokens = (
            sum(len(firsts[i]) for i in asked) // CHARACTERS,
            n * sum(len(texts[i]) // CHARACTERS + QUOTES for i in asked),
        )
        _tell(f"{len(asked)} requests to {self._chat.base_url}; {len(firsts) - len(asked)} are answered already")
        _tell(
            f"about {self._cost(*tokens)} (estimated: {CHARACTERS} characters a token, paraphrases as long as their "
            "texts; unusable answers that are asked for again come on top)"
        )
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise InputError("nothing was sent because there is no terminal to ask on: give --yes to send the requests")
        click.confirm("Send them?", abort=True, err=True)

    def make(
        self, texts: Sequence[str], labels: Sequence[str], n: int, generators: Sequence[np.random.Generator]
    ) -> list[list[str]]:
        """Paraphrases of each text, in the order of the texts."""

        async def paraphrase(row: tuple[str, str]) -> list[str]:
            text, label = row
            found: list[str] = []
            for ask in range(ASKS):
                told = question(self.prompt, text, label, n - len(found), found)
                found += in_answer(await self._chat.ask(told, ask), text, found)
                if len(found) >= n:
                    break
            return found[:n]

        return self._chat.map(paraphrase, list(zip(texts, labels, strict=True)))

    def finish(self) -> None:
        """Show the actual cost."""
        chat: Chat = vars(self).pop("_chat")  # the next start makes another
        chat.answers.close()
        spent = chat.spent
        if chat.sent:
            uncounted = sum(each.input_tokens is None for each in spent)
            note = f"; the server did not count those of {uncounted} answers" if uncounted else ""
            tokens = (sum(each.input_tokens or 0 for each in spent), sum(each.output_tokens or 0 for each in spent))
            _tell(f"{chat.sent} requests sent, {len(spent)} answered: {self._cost(*tokens)}{note}")

    def decided_by(self) -> Mapping[str, Any]:
        """The address, which may come from the environment."""
        return {"base_url": self._chat.base_url}

    @cached_property
    def _chat(self) -> Chat:
        if not self.llm_model:
            raise InputError("the method llm needs a model: name one that the server has with --llm-model")
        return Chat(
            self.llm_model,
            self.base_url,
            self.temperature,
            Answers(self.cache),
            max_retries=self.max_retries,
            timeout=self.timeout,
            requests_per_minute=self.requests_per_minute,
            concurrency=self.concurrency,
        )

    def _cost(self, tokens_in: int, tokens_out: int) -> str:
        shown = f"{tokens_in:,} input and {tokens_out:,} output tokens"
        if self.price_input is None and self.price_output is None:
            return shown
        cost = (tokens_in * (self.price_input or 0) + tokens_out * (self.price_output or 0)) / 1e6
        return f"{shown}, {cost:,.4f} at the given prices"


def _tell(line: str) -> None:
    print(f"llm: {line}", file=sys.stderr)
