"""Prompts and answers as token ids: what a language model reads, and of which tokens it learns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deni.data import Texts
from deni.data.conversations import ANSWERING, Conversation, Message
from deni.errors import InputError, InputWarning, SettingError

if TYPE_CHECKING:
    from datasets import Dataset

CUT = "a prompt that is too long loses its first tokens"


@dataclass(frozen=True)
class Prompting:
    """How a model reads prompts and writes answers.

    Args:
        tokenizer: of the model; with a chat template, where prompts are conversations.
        causal: whether the answer goes on after the prompt, in one sequence; else an encoder reads the prompt.
        max_length: tokens of prompt and answer together, of an encoder those of either.
    """

    tokenizer: Any
    causal: bool
    max_length: int

    def prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        """The token ids of a prompt, at most `max_length`: the last ones of a causal model, the first of an encoder."""
        ids = self._prompt(prompt)
        return ids[-self.max_length :] if self.causal else ids[: self.max_length]

    def _prompt(self, prompt: str | Sequence[Message]) -> list[int]:
        if isinstance(prompt, Conversation):
            return self._chat(prompt.messages, True)
        if not isinstance(prompt, str):
            return self._chat(prompt, True)
        ids = self.tokenizer(prompt, truncation=False, verbose=False)["input_ids"]
        ended = self.causal and len(ids) > 1 and ids[-1] in (self.tokenizer.eos_token_id, self.tokenizer.sep_token_id)
        return ids[:-1] if ended else ids

    def _answer(self, answer: str) -> list[int]:
        """With the token that ends a text."""
        if self.causal:
            ids = self.tokenizer(answer, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
            return [*ids, self._end]
        ids = self.tokenizer(text_target=answer, truncation=False, verbose=False)["input_ids"]
        return ids if ids and ids[-1] == self._end else [*ids, self._end]

    @property
    def _end(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise SettingError("the tokenizer has no eos_token, which ends an answer: set one, and save the tokenizer")
        return self.tokenizer.eos_token_id

    def _chat(self, messages: Sequence[Message], asking: bool) -> list[int]:
        ids = self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=asking, tokenize=True, return_dict=True
        )["input_ids"]
        return list(ids)

    def rows(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """Token ids and labels: of a causal model of one length, with -100 where nothing is learned.

        Of a conversation each answer of the assistant is learned.

        Raises:
            ValueError: why not.
        """
        if not self.causal:
            return self._prompt(prompt), self._answer(answer)
        if isinstance(prompt, Conversation):
            return self._turns([*prompt.messages, {"role": ANSWERING, "content": answer}])
        first, last = self._prompt(prompt), self._answer(answer)
        return first + last, [-100] * len(first) + last

    def _turns(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        ids = self._chat(messages, False)
        labels = [-100] * len(ids)
        for at, message in enumerate(messages):
            if message["role"] != ANSWERING:
                continue
            start, until = self._chat(messages[:at], True) if at else [], self._chat(messages[: at + 1], False)
            if ids[: len(until)] != until or until[: len(start)] != start:
                raise ValueError(
                    f"the chat template writes message {at + 1} not as a continuation of those before: give prompt and "
                    "completion"
                )
            labels[len(start) : len(until)] = ids[len(start) : len(until)]
        return ids, labels


def check_template(tokenizer: Any, texts: Texts, model: str) -> None:
    """Raise InputError for conversations without a chat template."""
    if any(isinstance(text, Conversation) for text in texts.texts) and not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"{texts.source}: its prompts are messages, and the tokenizer of {model} has no chat template: give prompt "
            "and completion as texts, or a model for chats"
        )


def encoded(texts: Texts, prompting: Prompting) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of each row, nothing cut.

    Raises:
        InputError: a row of which the chat template, or the tokenizer, makes nothing.
    """
    assert texts.labels is not None
    found = []
    for at, (prompt, answer) in enumerate(zip(texts.texts, texts.labels, strict=True)):
        assert isinstance(prompt, str)
        try:
            found.append(prompting.rows(prompt, answer))
        except (SettingError, MemoryError):
            raise
        except Exception as error:  # a template may raise anything
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{texts.source}, {texts.row(at)}: {first}") from error
    return found


def longest_rows(rows: Sequence[tuple[list[int], list[int]]], wanted: int | None, limit: int) -> int:
    """Tokens after which rows are cut: those of the longest, at most the limit of the model.

    Raises:
        InputError: more than the model takes.
    """
    if wanted is not None and wanted > limit:
        raise InputError(f"max_length {wanted} is over the model's limit of {limit} tokens")
    return wanted or min(limit, max(max(len(ids), len(labels)) for ids, labels in rows))


def longest_answer(rows: Sequence[tuple[list[int], list[int]]]) -> int:
    """Tokens of the longest answer."""
    return max(sum(label != -100 for label in labels) for _, labels in rows)


def answer_rows(texts: Texts, rows: Sequence[tuple[list[int], list[int]]], prompting: Prompting) -> Dataset:
    """A dataset of token ids and labels, cut: a prompt that is too long loses its first tokens, an answer none.

    An encoder loses the last tokens of its prompt, as its tokenizer cuts it.

    Raises:
        InputError: an answer that does not fit, or a conversation.
    """
    from datasets import Dataset

    made: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    longest, cut = prompting.max_length, 0
    for at, (ids, labels) in enumerate(rows):
        if len(ids) > longest or len(labels) > longest:
            room = longest - 1 if prompting.causal else longest  # a causal model predicts the first token from another
            count = sum(label != -100 for label in labels)
            chat = isinstance(texts.texts[at], Conversation)
            if count > room or (chat and prompting.causal):
                what = f"a conversation of {len(ids)} tokens" if chat else f"an answer of {count} tokens"
                raise InputError(
                    f"{texts.source}, {texts.row(at)}: {what} does not fit into {longest}: raise --max-length, or "
                    "shorten or drop the row"
                )
            cut += 1
            ids, labels = (ids[-longest:], labels[-longest:]) if prompting.causal else (ids[:longest], labels)
        made["input_ids"].append(ids)
        made["attention_mask"].append([1] * len(ids))
        made["labels"].append(labels)
    if cut:
        message = f"{texts.source}: {cut} of {len(rows)} rows are longer than {longest} tokens: {CUT}"
        warnings.warn(message, InputWarning, stacklevel=3)
    return Dataset.from_dict(made)
