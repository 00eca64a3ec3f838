"""The files that the cells of a study name, each read once: texts, their parts, fingerprints."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deni.data import Texts, read_augmented, read_data
from deni.data.partition import HELD_OUT, divide
from deni.errors import InputError, short
from deni.models.loading import load_config, locate
from deni.models.once import answered_once
from deni.models.token_cache import TokenCache
from deni.provenance import canonical, digest, digest_of_file, digest_of_text
from deni.randomness import Sources
from deni.recipe import Recipe
from deni.strategies import Strategy
from deni.strategies.augmentation import Augmentation
from deni.study.cell import Cell, Fingerprints
from deni.study.distilled import Distilled

_OPTIONS = ("text_column", "text_pair_column", "label_column", "split", "config_name")


@dataclass
class Library:
    """What has been read so far; the same question is answered from memory."""

    _texts: dict[str, Texts] = field(default_factory=dict, repr=False)
    _digests: dict[str, str] = field(default_factory=dict, repr=False)
    _parts: dict[str, tuple[Texts, Texts]] = field(default_factory=dict, repr=False)
    tokens: TokenCache = field(default_factory=TokenCache, repr=False)

    def texts(self, cell: Cell) -> Texts:
        """All texts of the cell's dataset."""
        at = self._place(cell)
        if at not in self._texts:
            options: dict[str, Any] = {name: cell.dataset.get(name) for name in _OPTIONS}
            task, order = cell.task, cell.dataset.get("label_order") or ()
            self._texts[at] = read_data(
                cell.dataset["name"], **options, task=task, pairs=_reads_pairs(cell), label_order=order
            )
        return self._texts[at]

    def parts(self, cell: Cell, strategy: Strategy) -> tuple[Texts, Texts]:
        """The texts to train on and those to measure on."""
        seeds = {name: cell.seeds[name] for name in ("data_split", "label_choice")}
        preset = cell.preset or cell.protocol
        all_data = [part.settings() for part in strategy.parts if part.most_texts is not None]
        at = canonical([self._place(cell), cell.labelled, cell.measure, cell.test_size, preset, seeds, all_data])
        if at not in self._parts:
            developing: dict[str, Any] = {"dev": HELD_OUT, "dev_size": cell.test_size}
            train, test, developed = divide(
                self.texts(cell),
                Sources(cell.block, seeds=seeds),
                **(developing if cell.measure == "development" else {"test_size": cell.test_size}),
                labelled=cell.labelled,
                how_many=strategy.labelled,
                preset=preset,
            )
            measured = developed if cell.measure == "development" else test
            assert measured is not None
            self._parts[at] = train, measured
        return self._parts[at]

    def unlabeled(self, cell: Cell, strategy: Distilled) -> Texts:
        """The pool of a student: texts of the dataset that are neither labeled nor in a test or dev split."""
        if strategy.pool_of is not None:
            at = canonical({"name": strategy.pool_of})
            if at not in self._texts:
                self._texts[at] = read_data(strategy.pool_of)
            return dataclasses.replace(self._texts[at], labels=None)
        train, _ = self.parts(cell, strategy)
        whole, _ = self.parts(dataclasses.replace(cell, labelled=None), strategy)
        rest = np.flatnonzero(~whole.frame.index.isin(train.frame.index))
        return dataclasses.replace(whole.select(rest), labels=None)

    def fingerprints(self, cell: Cell, strategy: Strategy) -> Fingerprints:
        """What the files of a cell hold at present."""
        augmented = ",".join(fingerprint_of_file(file) for file in augmented_files(strategy))
        return Fingerprints(self.fingerprint_of_data(cell), fingerprint_of_model(cell.model), augmented)

    def fingerprint_of_data(self, cell: Cell) -> str:
        """Of the texts and labels of the cell's dataset, as they were read."""
        at = self._place(cell)
        if at not in self._digests:
            self._digests[at] = fingerprint_of_texts(self.texts(cell))
        return self._digests[at]

    def _place(self, cell: Cell) -> str:
        read = {name: value for name, value in cell.dataset.items() if name != "augmented"}
        return canonical([read, _reads_pairs(cell)])


def _reads_pairs(cell: Cell) -> bool:
    """Whether a named dataset of pairs gives pairs, not one text as in the released code."""
    return (cell.preset or cell.protocol) is None or cell.recipe.get("pairs") == "bi"


def steps_of(recipe: Recipe, texts: int) -> int:
    """T: optimizer steps of a run on so many labeled examples, with the augmented ones."""
    added = sum(part.augmentations for part in recipe.strategy.parts if isinstance(part, Augmentation))
    return math.ceil(recipe.epochs * math.ceil(texts * (1 + added) / recipe.batch_size))


def augmented_files(strategy: Strategy) -> list[str]:
    """The files of augmented texts that a strategy reads.

    Raises:
        InputError: it needs one and has none.
    """
    needing = [part for part in strategy.parts if isinstance(part, Augmentation) and part.augmentations]
    for part in needing:
        if part.augmented is None:
            raise InputError(
                f"{part.name} needs augmented texts: give the dataset as {{name: ..., augmented: FILE}}, a file with "
                "the columns seed and text"
            )
    return [str(part.augmented) for part in needing]


def check_augmented(strategy: Strategy, train: Texts) -> None:
    """Raise InputError where a labeled example has fewer augmented texts than the strategy takes."""
    for part in strategy.parts:
        if not isinstance(part, Augmentation) or not part.augmentations:
            continue
        if not isinstance(train.texts[0], str):
            raise InputError(f"{part.name} has one text a row, not pairs: give no text_pair_column, or a preset")
        found = _augmented(str(part.augmented))
        poor = [text for text in train.texts if len(found.get(str(text), ())) < part.augmentations]
        if poor:
            raise InputError(
                f"{part.augmented} has fewer than {part.augmentations} augmented texts for {len(poor)} of "
                f"{len(train)} labeled ones, such as {short(poor[0])}: add some, or choose fewer augmentations"
            )


@answered_once
def _augmented(file: str) -> dict[str, list[str]]:
    return read_augmented(file)


def fingerprint_of_texts(texts: Texts) -> str:
    """SHA-256 of texts and labels in their order, and of the order of the classes where they have one."""
    order = [list(texts.order)] if texts.order else []
    content = json.dumps([list(texts.texts), list(texts.labels or ()), texts.task, *order])
    return digest_of_text(content)


@answered_once
def fingerprint_of_file(file: str) -> str:
    """SHA-256 of a file; raises InputError where it cannot be read."""
    try:
        return digest_of_file(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from None


@answered_once
def fingerprint_of_model(model: str) -> str:
    """SHA-256 of the files in a model's folder; of the hub, the commit.

    Raises:
        InputError: a model that cannot be loaded.
    """
    config: Any = load_config(model)
    folder = Path(locate(model))
    if not folder.is_dir():
        return str(getattr(config, "_commit_hash", None) or locate(model))
    files = sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    content = [(each.name, fingerprint_of_file(str(each))) for each in files]
    return digest(content)
