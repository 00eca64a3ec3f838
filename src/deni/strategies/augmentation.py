"""Augmented texts next to the labeled ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from deni.errors import InputError, SettingError, short
from deni.strategies.base import Setup, Strategy


@dataclass(frozen=True)
class Augmentation(Strategy, name="augmentation", paper_row=11):
    """Add augmented texts with the label of the text that they were made from (arXiv 2406.12471).

    Args:
        augmentations: how many augmented texts for each labeled one, at least 0; 1, 2, 3, 5 and 10 in the paper. Which
            of those in the file are taken is chosen by the augmentation source of the run.
        augmented: a file with the columns `seed` (the labeled text, whose label counts) and `text`: CSV, TSV, JSONL or
            Parquet.
        epochs: passes over all texts; 12 in the paper. None leaves the training arguments unchanged.
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = (
        "When paraphrases are available: from a language model, from back-translation, or written by hand."
    )

    augmentations: int = 1
    augmented: str | None = None
    epochs: float | None = 12

    def __post_init__(self) -> None:
        if self.augmentations < 0:
            raise SettingError(f"augmentations must be at least 0, not {self.augmentations}")
        if self.epochs is not None and not (self.epochs > 0 and math.isfinite(self.epochs)):
            raise SettingError(f"epochs must be above 0, not {self.epochs}")

    def prepare(self, setup: Setup) -> Setup:
        if not self.augmentations or setup.train is None:
            return setup
        from deni.data import read_augmented

        if self.augmented is None:
            raise InputError(
                "augmented texts are needed: --augmented FILE with the columns seed and text; deni augment makes one"
            )
        if "words" in getattr(setup.train, "column_names", ()):
            raise InputError("augmented texts have one label each, not one for each word: choose another strategy")
        if "text" not in getattr(setup.train, "column_names", ()):
            raise SettingError("augmentation needs a training set of `datasets` with its texts in the column 'text'")
        if "text_pair" in setup.train.column_names:
            raise InputError(
                "augmentation has one text a row, not pairs: omit --text-pair-column, or read a dataset of pairs "
                "as one text with --preset paper"
            )
        if setup.tokenizer is None:
            raise SettingError("augmentation needs the tokenizer: give the trainer `processing_class`")
        assert setup.sources is not None
        texts = list(setup.train["text"])
        chosen = self._choose(texts, read_augmented(self.augmented), setup.sources.numpy("augmentation"))
        return replace(setup, train=_extended(setup.train, chosen, setup.tokenizer))

    def _choose(
        self, texts: Sequence[str], augmented: Mapping[str, Sequence[str]], draw: np.random.Generator
    ) -> list[tuple[int, str]]:
        """Row of a labeled text and an augmented text of it, n for each."""
        poor = [text for text in texts if len(augmented.get(text, ())) < self.augmentations]
        if poor:
            has = len(augmented.get(poor[0], ()))
            raise InputError(
                f"{self.augmented} has fewer than {self.augmentations} augmented texts for {len(poor)} of {len(texts)} "
                f"labeled ones, such as {short(poor[0])} with {has}: add some or choose fewer --augmentations"
            )
        chosen = []
        for row, text in enumerate(texts):
            for at in draw.permutation(len(augmented[text]))[: self.augmentations]:
                chosen.append((row, augmented[text][at]))
        return chosen


def _extended(train: Any, chosen: Sequence[tuple[int, str]], tokenizer: Any) -> Any:
    """The training set and the chosen texts, cut at its longest one, with the labels of their seeds."""
    from datasets import concatenate_datasets

    longest = max(map(len, train["input_ids"]))
    rows, texts = [row for row, _ in chosen], [text for _, text in chosen]
    tokens = dict(tokenizer(texts, truncation=True, max_length=longest, verbose=False))
    added = train.select(rows).to_dict()  # label and whatever else a row has
    added.update({"text": texts, **{key: tokens[key] for key in tokens if key in added}})
    return concatenate_datasets([train, type(train).from_dict(added, features=train.features)])
