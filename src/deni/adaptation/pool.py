"""The unlabeled texts that an encoder may learn from: test texts and repeated ones are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deni.data import Texts, pool, sides
from deni.data.pool import Pool
from deni.errors import InputError, short
from deni.tasks import TASKS
from deni.tasks.remarks import many

LEAST = 40  # texts: fewer teach an encoder nothing, and hold too few out
HELD_OUT, MOST_HELD_OUT = 0.1, 1000  # part of the texts on which the loss is watched, and how many at most


def make_pool(texts: Texts, test: Texts | None = None, empty: int = 0) -> Pool:
    """Leave out test texts, and those that repeat another one, see `deni.data.pool`; both sides of a pair are texts.

    Args:
        texts: labels that they have are not looked at.
        test: what the model will be tested on.
        empty: rows of the file that had no text, for the count.

    Raises:
        InputError: fewer than `LEAST` texts are left.

    >>> texts = Texts([f"ticket {number}" for number in range(50)] + ["Ticket 7!"], None, "pool.csv", None)
    >>> pool = make_pool(texts, Texts(["ticket 3."], None, "test.csv", None))
    >>> len(pool), pool.read, dict(pool.left_out)
    (49, 51, {'test': 1, 'repeated': 1})
    """
    found = pool.make_pool(as_single(texts), test=None if test is None else as_single(test), empty=empty)
    if len(found) < LEAST:
        left = f" (left out: {pool.told(found.left_out)})" if found.left_out else ""
        told = f"{many(len(found))} to adapt to{left}"
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
