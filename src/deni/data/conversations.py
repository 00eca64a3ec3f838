"""Prompts and answers of a file for a language model: two columns of texts, or the messages of chats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from deni.data.values import has_surrogate, row_of
from deni.errors import InputError, short, shown
from deni.tasks.column import is_null

MESSAGES = "messages"
ANSWERING = "assistant"
Message = dict[str, str]


class Conversation(str):
    """The messages before an answer as a text; `messages` has them one by one.

    >>> Conversation([{"role": "user", "content": "2 + 2?"}])
    'user: 2 + 2?'
    """

    messages: tuple[Message, ...]

    def __new__(cls, messages: Sequence[Message]) -> Conversation:
        made = super().__new__(cls, "\n".join(f"{each['role']}: {each['content']}" for each in messages))
        made.messages = tuple(messages)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Conversation, (self.messages,)


def as_prompts(frame: pd.DataFrame, source: str, prompt: str, answer: str | None) -> pd.DataFrame:
    """The table with a column of prompts, and one of answers where there are some: texts, or conversations.

    Columns are called as TRL calls them. A column `messages` has whole chats: the last message is the answer, those
    before it are the prompt. Where `prompt` has lists of messages, `completion` has one more. Either may be JSON in a
    text.

    Args:
        prompt, answer: the names of the columns; None where no answers are needed.

    Raises:
        InputError: one line that names the file, the row and the column.
    """
    if prompt not in frame.columns and MESSAGES in frame.columns:
        chats = [_messages(value, source, row_of(frame, at), MESSAGES) for at, value in enumerate(frame[MESSAGES])]
        for at, chat in enumerate(chats):
            if answer is None:
                continue
            if chat[-1]["role"] != ANSWERING or len(chat) < 2:
                raise _wrong(
                    source,
                    row_of(frame, at),
                    MESSAGES,
                    f"the last message is of {chat[-1]['role']!r}, and "
                    f"one of {ANSWERING!r} after another one was expected",
                )
        before = [Conversation(chat if answer is None else chat[:-1]) for chat in chats]
        answers = {} if answer is None else {answer: [chat[-1]["content"] for chat in chats]}
        return frame.assign(**{prompt: pd.Series(before, index=frame.index, dtype=object), **answers})
    if prompt not in frame.columns:
        raise InputError(
            f"{source}: neither a column {prompt!r} nor {MESSAGES!r} among {shown(frame.columns)}; name the prompts "
            "with --text-column"
        )
    prompts = frame[prompt].tolist()
    if not any(_is_list(value) for value in prompts):
        return frame
    chats = [_messages(value, source, row_of(frame, at), prompt) for at, value in enumerate(prompts)]
    made = frame.assign(**{prompt: pd.Series([Conversation(chat) for chat in chats], index=frame.index, dtype=object)})
    if answer is None or answer not in frame.columns:
        return made
    answers_of = []
    for at, value in enumerate(frame[answer].tolist()):
        if isinstance(value, str) and not _is_list(value):
            answers_of.append(value)
            continue
        chat = _messages(value, source, row_of(frame, at), answer)
        if len(chat) != 1 or chat[0]["role"] != ANSWERING:
            raise _wrong(source, row_of(frame, at), answer, f"one message of {ANSWERING!r} was expected")
        answers_of.append(chat[0]["content"])
    return made.assign(**{answer: pd.Series(answers_of, index=frame.index, dtype=object)})


def _is_list(value: Any) -> bool:
    if isinstance(value, list | tuple | np.ndarray):
        return True
    if not isinstance(value, str) or not value.lstrip().startswith("[{"):
        return False
    try:
        return isinstance(json.loads(value), list)
    except ValueError:
        return False


def _messages(value: Any, source: str, row: str, column: str) -> list[Message]:
    """The messages of a value of a table, checked."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise _wrong(source, row, column, f"{short(value)} where a list of messages was expected") from None
    if is_null(value) or not isinstance(value, list | tuple | np.ndarray) or not len(value):
        raise _wrong(source, row, column, f"{short(value)} where a list of messages was expected")
    messages = []
    for place, each in enumerate(value, start=1):
        if not isinstance(each, dict) or not isinstance(each.get("role"), str):
            raise _wrong(source, row, column, f"message {place} is {short(each)}, not an object with role and content")
        content = each.get("content")
        if not isinstance(content, str) or not content.strip():
            what = "empty" if content is None or isinstance(content, str) else f"{short(content)}, not a text"
            raise _wrong(source, row, column, f"the content of message {place} ({each['role']}) is {what}")
        if has_surrogate(content):
            raise _wrong(source, row, column, f"message {place} has half a surrogate pair, which is not a character")
        messages.append({"role": each["role"], "content": content})
    return messages


def _wrong(source: str, row: str, column: str, why: str) -> InputError:
    return InputError(f"{source}, {row}, column {column!r}: {why}; correct or drop the row")
