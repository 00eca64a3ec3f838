"""Texts with their labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from deni.data import keys
from deni.data.values import row_of
from deni.errors import short
from deni.tasks import DEFAULT, TASKS

Text = str | tuple[str, ...]  # one text, a pair, or words


@dataclass(frozen=True)
class Texts:
    """Texts in the order of their file, with their labels if they have any.

    Attributes:
        texts: never blank; all of them strings, or all of them pairs of strings; tuples of words for the task `token`.
        labels: one a text, never blank; a tuple of labels for the task `multi_label`, a number for `regression`, a
            tuple with a tag for each word for `token`; `None` for unlabeled texts.
        source: the file's name as the user wrote it, for messages.
        frame: all columns as read, one row a text; its index is named and counts from 1: the `line` of the file on
            which the row begins (the header is line 1), or the `record` of a Parquet file.
        task: what the labels are, one of `deni.tasks.TASKS`.
        order: the classes in their order, where the task has one; also those that no text here has.
        soft: what training is to predict in place of the labels, one row a text: a number for each class of `names`,
            in their order, `(N, C)`; of words `(W, C)` for each text. See `deni.training.soft_labels`.
        weights: how much each text counts in training, `(N,)`, at least 0; None: all alike.
    """

    texts: Sequence[Text]
    labels: list[Any] | None
    source: str
    frame: pd.DataFrame = field(repr=False, compare=False)
    task: str = DEFAULT
    order: Sequence[str] = ()
    soft: np.ndarray | Sequence[Any] | None = field(default=None, repr=False, compare=False)
    weights: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        """Count the texts."""
        return len(self.texts)

    @property
    def pairs(self) -> bool:
        """Whether each text is a pair."""
        return not TASKS[self.task].of_words and not isinstance(self.texts[0], str)

    @cached_property
    def exact_keys(self) -> list[str]:
        """One string a text; equal ones are the same text."""
        return [keys.exact(text) for text in self.texts]

    @cached_property
    def loose_keys(self) -> list[str]:
        """One string a text; equal ones differ by case, white space and punctuation only."""
        of_words = TASKS[self.task].of_words
        return [keys.loose(" ".join(text) if of_words else text) for text in self.texts]

    def shown(self, position: int) -> str:
        """A text for a message; words as a sentence."""
        text = self.texts[position]
        return short(" ".join(text) if TASKS[self.task].of_words else text)

    def row(self, position: int) -> str:
        """Say where in its file a text is: "line 7", "record 7", or "text 7" without a file."""
        return f"text {position + 1}" if self.frame is None else row_of(self.frame, position)

    def select(self, indices: Iterable[int]) -> Texts:
        """Keep the texts at these positions, counted from 0, in this order."""
        positions = list(indices)
        labels = None if self.labels is None else [self.labels[i] for i in positions]
        texts = [self.texts[i] for i in positions]
        frame = self.frame if self.frame is None else self.frame.iloc[positions]  # texts of a program have none
        soft = self.soft
        if soft is not None:
            soft = soft[positions] if isinstance(soft, np.ndarray) else [soft[i] for i in positions]
        weights = None if self.weights is None else np.asarray(self.weights)[positions]
        return dataclasses.replace(self, texts=texts, labels=labels, frame=frame, soft=soft, weights=weights)


def names(texts: Texts) -> list[str]:
    """Names of the outputs of a model of these texts, see `deni.tasks.Task.class_names`."""
    return TASKS[texts.task].class_names(texts.labels or (), texts.order)


def fed(texts: Sequence[Text], task: str) -> dict[str, Any]:
    """What a tokenizer takes: the texts, the two sides of pairs, or words.

    >>> fed([("a", "b")], "single_label"), fed([("a", "b")], "token")
    ({'text': ['a'], 'text_pair': ['b']}, {'text': [['a', 'b']], 'is_split_into_words': True})
    """
    if TASKS[task].of_words:
        return {"text": [list(words) for words in texts], "is_split_into_words": True}
    return dict(zip(("text", "text_pair"), sides(texts), strict=False))


def sides(texts: Sequence[Text]) -> list[list[str]]:
    """The texts, or the first and the second text of each pair.

    >>> sides([("a", "b"), ("c", "d")])
    [['a', 'c'], ['b', 'd']]
    """
    if texts and not isinstance(texts[0], str):
        return [list(side) for side in zip(*texts, strict=True)]
    return [list(texts)]  # type: ignore[arg-type]
