"""The unlabeled texts that an encoder may learn from: test texts and repeated ones are left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deni.data import Texts, sides
from deni.data.checks.copies import copies
from deni.errors import InputError, short
from deni.tasks import TASKS
from deni.tasks.remarks import many

LEAST = 40  # texts: fewer teach an encoder nothing, and hold too few out
HELD_OUT, MOST_HELD_OUT = 0.1, 1000  # part of the texts on which the loss is watched, and how many at most


@dataclass(frozen=True)
class Pool:
    """Texts without labels.

    Args:
        texts: each one once, as strings; both sides of a pair are texts.
        read: how many there were.
        tested: how many were left out because they are test texts.
        repeated: how many because they repeat another one.
    """

    texts: Sequence[str]
    read: int
    tested: int
    repeated: int


def make_pool(texts: Texts, test: Texts | None = None) -> Pool:
    """Leave out test texts, and those that repeat another one.

    Copies are equal but for case, white space and punctuation, as `deni inspect` finds them.

    Args:
        texts: labels that they have are not looked at.
        test: what the model will be tested on.

    Raises:
        InputError: fewer than `LEAST` texts are left.

    >>> texts = Texts([f"ticket {number}" for number in range(50)] + ["Ticket 7!"], None, "pool.csv", None)
    >>> pool = make_pool(texts, Texts(["ticket 3."], None, "test.csv", None))
    >>> len(pool.texts), pool.read, pool.tested, pool.repeated
    (49, 51, 1, 1)
    """
    pool = as_single(texts)
    tested = np.zeros(len(pool), bool) if test is None else copies(as_single(test), pool)
    kept, seen = [], set[str]()
    for row, key in enumerate(pool.loose_keys):
        if not tested[row] and key not in seen:
            seen.add(key)
            kept.append(row)
    found = Pool([str(pool.texts[row]) for row in kept], len(pool), int(tested.sum()), 0)
    found = dataclasses.replace(found, repeated=found.read - found.tested - len(kept))
    if len(kept) < LEAST:
        why = {"in the test file": found.tested, "repeated": found.repeated}
        left = ", ".join(f"{count:,} {how}" for how, count in why.items() if count)
        told = f"{many(len(kept))} to adapt to{f' (left out: {left})' if left else ''}"
        raise InputError(f"{texts.source}: {told}: give at least {LEAST}, some hundreds are better")
    return found


def as_single(texts: Texts) -> Texts:
    """The same as strings: both sides of pairs, words with blanks between them."""
    if TASKS[texts.task].of_words:
        single = [" ".join(words) for words in texts.texts]
    else:
        single = [text for side in sides(texts.texts) for text in side]
    return Texts(single, None, texts.source, None)


def as_texts(texts: Texts | Sequence[str], source: str) -> Texts:
    """Texts of a program, checked.

    Args:
        source: what they are called in messages.

    Raises:
        InputError: one that is no string, or blank.
    """
    if isinstance(texts, Texts):
        return texts
    if isinstance(texts, str):
        raise InputError(f"{source}: one string where a list of texts was expected")
    listed = list(texts)
    for at, text in enumerate(listed):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{source}: text {at + 1} is {short(text)} where a text was expected")
    return Texts(listed, None, source, None)


def divide(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which texts to train on, and which to hold out: a tenth, at most `MOST_HELD_OUT`; both in order."""
    order = generator.permutation(count)
    held_out = min(MOST_HELD_OUT, max(4, round(HELD_OUT * count)))
    return np.sort(order[held_out:]), np.sort(order[:held_out])
