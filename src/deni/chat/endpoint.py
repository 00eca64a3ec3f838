"""Where a language model is and what asking it may take and cost: settings, the estimate, the confirmation."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import click

from deni.chat.answers import Answer, Answers
from deni.chat.client import OPENAI, Chat
from deni.chat.guard import check_address
from deni.errors import InputError, SettingError
from deni.settings import check_choices

CHARACTERS = 4  # of a token, for the estimate: about that of English


@dataclass(frozen=True)
class Endpoint:
    """A language model behind an OpenAI-compatible server.

    The key comes from the environment variable OPENAI_API_KEY; local servers mostly need none.

    Args:
        llm_model: the model, as the server names it.
        base_url: address of an OpenAI-compatible server, such as http://localhost:8000/v1; else OPENAI_BASE_URL, else
            that of OpenAI.
        temperature: temperature of the answers, at least 0. Unset leaves the server's own.
        max_retries: how often a request is sent again after 429, 5xx, a time-out or a lost connection.
        timeout: seconds until an answer must begin or go on.
        requests_per_minute: send at most so many, those sent again among them.
        concurrency: requests under way at one time.
        price_input: price of a million input tokens, for the estimate.
        price_output: price of a million output tokens.
        cache: folder of the stored answers.
        yes: send the requests without a question; needed without a terminal to ask on.
    """

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"max_retries", "timeout", "requests_per_minute", "concurrency", "price_input", "price_output", "cache", "yes"}
    )  # fields that do not decide an answer

    llm_model: str | None = None
    base_url: str | None = None
    temperature: float | None = None
    max_retries: int = 5
    timeout: float = 120
    requests_per_minute: float | None = None
    concurrency: int = 4
    price_input: float | None = None
    price_output: float | None = None
    cache: str = "~/.cache/deni"
    yes: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        for field in ("temperature", "max_retries", "price_input", "price_output"):
            value = getattr(self, field)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise SettingError(f"{field} must be at least 0, not {value}")
        for field in ("timeout", "requests_per_minute", "concurrency"):
            value = getattr(self, field)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise SettingError(f"{field} must be above 0, not {value}")

    @property
    def address(self) -> str:
        """The address that is asked, which may come from the environment.

        Raises:
            InputError: it is that of no server, or has a secret in it.
        """
        address = self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
        check_address(address)
        return address

    def open(self, answer_format: Mapping[str, Any] | None = None) -> Chat:
        """A client; see `Chat`.

        Raises:
            InputError: no model, no key for OpenAI's own server, no package `openai`, or no address of a server.
        """
        if not self.llm_model:
            raise InputError("llm needs a model: name one that the server has with --llm-model")
        return Chat(
            self.llm_model,
            self.base_url,
            self.temperature,
            Answers(self.cache),
            max_retries=self.max_retries,
            timeout=self.timeout,
            requests_per_minute=self.requests_per_minute,
            concurrency=self.concurrency,
            answer_format=answer_format,
        )

    def check_consent(self) -> None:
        """Raise InputError where nobody has agreed to send requests, nor can be asked."""
        if not self.yes and not sys.stdin.isatty():
            raise InputError("nothing was sent because there is no terminal to ask on: give --yes to send the requests")

    def confirm(self, chat: Chat, questions: Sequence[str], output_tokens: Sequence[int], assumed: str) -> None:
        """Show the estimated cost of the questions that have no answer yet, and ask for confirmation.

        Args:
            output_tokens: estimates, one a question.
            assumed: what they are estimates of, for the message.
        """
        asked = [at for at, question in enumerate(questions) if chat.known(question, 0) is None]
        if not asked:
            return
        tokens = sum(len(questions[at]) for at in asked) // CHARACTERS, sum(output_tokens[at] for at in asked)
        _tell(f"{len(asked)} requests to {chat.base_url}; {len(questions) - len(asked)} are answered already")
        _tell(f"about {self.cost(*tokens)} (estimated: {CHARACTERS} characters a token, {assumed})")
        self.check_consent()
        if not self.yes:
            click.confirm("Send them?", abort=True, err=True)

    def close(self, chat: Chat) -> None:
        """Show the actual cost, and close the store of answers."""
        chat.answers.close()
        spent = chat.spent
        if chat.sent:
            uncounted = sum(each.input_tokens is None for each in spent)
            note = f"; the server did not count those of {uncounted} answers" if uncounted else ""
            _tell(f"{chat.sent} requests sent, {len(spent)} answered: {self.cost(*tokens_of(spent))}{note}")

    def price(self, tokens_in: float, tokens_out: float) -> float | None:
        """What tokens cost; None without a price."""
        if self.price_input is None and self.price_output is None:
            return None
        return (tokens_in * (self.price_input or 0) + tokens_out * (self.price_output or 0)) / 1e6

    def cost(self, tokens_in: int, tokens_out: int) -> str:
        """Tokens, and what they cost, in words."""
        shown = f"{tokens_in:,} input and {tokens_out:,} output tokens"
        price = self.price(tokens_in, tokens_out)
        return shown if price is None else f"{shown}, {price:,.4f} at the given prices"


def tokens_of(answers: Sequence[Answer]) -> tuple[int, int]:
    """Input and output tokens, as far as the server counted them."""
    return sum(each.input_tokens or 0 for each in answers), sum(each.output_tokens or 0 for each in answers)


def _tell(line: str) -> None:
    print(f"llm: {line}", file=sys.stderr)
