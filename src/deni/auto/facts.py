"""What `auto` looks at: how many labeled texts there are, of what kind, and what the encoder is."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from deni.data import Texts
from deni.models.places import locate
from deni.tasks import TASKS

POOLING = "1_Pooling/config.json"  # how a sentence encoder says that its vectors are made


@dataclass(frozen=True)
class Facts:
    """Of the texts to train on, and of the encoder.

    Args:
        task: what a text has, one of `deni.tasks.TASKS`.
        examples: labeled texts.
        classes: classes, labels or types of entities that some text has; 0 in regression.
        per_class: labeled texts a class, on average; of several labels each counts. 0 without classes.
        fewest, largest: texts of the rarest and of the most frequent class; 0 without classes.
        pairs: whether each text is a pair.
        architecture: of the encoder, `model_type` in its `config.json`; empty where that cannot be read.
        encoder: `sentence`: it was trained to make vectors of texts, and its files say how; or `plain`.
    """

    task: str
    examples: int
    classes: int = 0
    per_class: float = 0.0
    fewest: int = 0
    largest: int = 0
    pairs: bool = False
    encoder: Literal["sentence", "plain"] = "plain"
    architecture: str = ""

    def __str__(self) -> str:
        texts = f"{self.examples:,} labeled {'pairs' if self.pairs else 'texts'}"
        if not self.classes:
            classes = self.task
        else:
            each = f"{self.fewest}" if self.fewest == self.largest else f"{self.fewest} to {self.largest}"
            classes = f"{self.task}, {self.classes} classes of {each} texts"
        return f"{texts}, {classes}, {'a sentence encoder' if self.encoder == 'sentence' else 'an encoder'}"


def collect_facts(train: Texts, model: str) -> Facts:
    """The facts of labeled texts, and of a model by its name; its weights are not read.

    >>> import pandas as pd
    >>> texts = Texts(["a", "b", "c"], ["x", "x", "y"], "a.csv", pd.DataFrame())
    >>> facts = collect_facts(texts, "a/model")
    >>> facts.examples, facts.classes, facts.fewest, facts.largest, facts.per_class
    (3, 2, 1, 2, 1.5)
    """
    task = TASKS[train.task]
    counts = Counter(name for label in train.labels or () for name in task.classes_in(label))
    return Facts(
        train.task,
        len(train),
        len(counts),
        counts.total() / max(len(counts), 1),
        min(counts.values(), default=0),
        max(counts.values(), default=0),
        train.pairs,
        encoder_kind(model),
        architecture_of(model),
    )


def encoder_kind(model: str) -> Literal["sentence", "plain"]:
    """Whether the files of a model say how it makes vectors of texts.

    Args:
        model: `minilm`, a folder, or a hub id; where the hub does not answer it is taken for a plain one.
    """
    from deni.models.reading import read_text

    return "plain" if read_text(locate(model), POOLING) is None else "sentence"


def architecture_of(model: str) -> str:
    """The architecture that the files of a model name; empty where they cannot be read, which whoever loads it says."""
    from deni.models.reading import read_text

    try:
        named = json.loads(read_text(locate(model), "config.json") or "{}").get("model_type", "")
    except (ValueError, AttributeError):
        return ""
    return named if isinstance(named, str) else ""
