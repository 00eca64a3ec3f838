"""The prompt for paraphrases, and parsing the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from deni.chat.reading import values_in
from deni.data.values import why_no_text

PROMPT = """\
Write {n} paraphrases of the text below. Use other words and another structure; keep the meaning and the language.
The label of the text is: {label}. Whoever labels one of the paraphrases must choose the same label.
Neither the text nor a paraphrase may come twice. Answer with a JSON list of {n} strings and nothing else.

Text: {text}"""
NEEDED = ("{text}", "{n}")


def question(prompt: str, text: str, label: str, n: int, known: Sequence[str] = ()) -> str:
    """The prompt with its placeholders filled in, and the paraphrases that are known already.

    >>> question("{n} times, as {label}: {text}", "I want {n} apples", "order", 2)
    '2 times, as order: I want {n} apples'
    """
    values = {"text": text, "label": label, "n": str(n)}
    filled = re.sub(r"\{(text|label|n)\}", lambda found: values[found[1]], prompt)
    if not known:
        return filled
    return f"{filled}\n\nNone of these, which are known already: {json.dumps(list(known), ensure_ascii=False)}"


def in_answer(answer: str, text: str, known: Sequence[str] = ()) -> list[str]:
    """The paraphrases in an answer that differ from the text, from the known ones and from each other.

    A list in a fence, in an object or between sentences is found; items that are no text are left out.

    >>> in_answer('Sure! ["Where is it?", "where  is it?", 3, "It is where?"]', "It is where?")
    ['Where is it?']
    """
    taken = {_plain(each) for each in (text, *known)}
    found = []
    for item in _items(answer):
        if why_no_text(item) is None and _plain(item) not in taken:
            taken.add(_plain(item))
            found.append(item.strip())
    return found


def _items(answer: str) -> list:
    """The list in an answer; an empty one where there is none."""
    for value in values_in(answer, "[]"):
        lists = [value] if isinstance(value, list) else _lists_in(value)
        if len(lists) == 1:
            return lists[0]
    return []


def _lists_in(value: object) -> list[list]:
    return [each for each in value.values() if isinstance(each, list)] if isinstance(value, dict) else []


def _plain(text: str) -> str:
    """A text without what does not make it another: letter case and white space."""
    return " ".join(text.split()).casefold()
