"""`fine_tune` with texts that have no labels: a teacher, and its student as the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deni.auto import decide
from deni.data import Texts, read_augmented, why_no_text
from deni.data.pool import read_pool
from deni.data.texts import Text
from deni.errors import InputError, SettingError, short
from deni.finetune.precision import settle
from deni.recipe import Recipe
from deni.tasks import TASKS

if TYPE_CHECKING:
    from deni.distillation import Distillation
    from deni.finetune.result import FineTuneResult

Unlabelled = Texts | Sequence[Text] | str | Path
Augmented = Mapping[str, Sequence[str]] | str | Path


def one_spelling(unlabelled: Any, unlabeled: Any) -> Any:
    """What was given under either spelling of the argument.

    Raises:
        SettingError: both were given.

    >>> one_spelling(None, ["a"])
    ['a']
    """
    if unlabelled is not None and unlabeled is not None:
        raise SettingError("unlabelled and unlabeled are one argument: give it once")
    return unlabeled if unlabelled is None else unlabelled


@dataclass(frozen=True)
class PoolArguments:
    """The arguments of `deni.finetune.fine_tune` that are for texts without labels; None where not given.

    Args:
        unlabelled: the texts, see `as_pool`.
        augmented: further texts, by the text that they were made from, or a file of them.
        test: texts that are measured on, which are left out of the others.
        teachers: members of the ensemble that teaches.
        distillation: how the student learns.
    """

    unlabelled: Unlabelled | None
    augmented: Augmented | None
    test: Texts | None
    teachers: int | None
    distillation: Distillation | None

    def check(self) -> None:
        """Raise SettingError for settings of texts without labels where there are none."""
        for name in ("augmented", "test", "teachers", "distillation"):
            if self.unlabelled is None and getattr(self, name) is not None:
                raise SettingError(f"{name} is for texts without labels: give unlabelled, too, or omit it")

    def fine_tune(self, train: Texts, recipe: Recipe, **training: Any) -> FineTuneResult:
        """The student of a teacher that is trained as the recipe says, see `deni.distillation.teaching.teach`.

        Args:
            training: further arguments of `teach`.

        Raises:
            InputError: texts that cannot serve; before anything is trained.
        """
        from deni.distillation.teaching import TEACHERS, teach

        assert self.unlabelled is not None
        pool, empty = as_pool(self.unlabelled, train, training.get("text_pair_column"))
        augmented = read_augmented(self.augmented) if isinstance(self.augmented, str | Path) else self.augmented
        device, progress = training.get("device"), training.get("progress", True)
        recipe = settle(decide(recipe, train, device=device, progress=progress), device)
        lesson = teach(
            train,
            pool,
            recipe,
            test=self.test,
            members=TEACHERS if self.teachers is None else self.teachers,
            distillation=self.distillation,
            augmented=augmented,
            empty=empty,
            **training,
        )
        return lesson.student


def as_pool(unlabelled: Unlabelled, train: Texts, text_pair_column: str | None = None) -> tuple[Texts, int]:
    """Texts without labels as `Texts`, and how many of them are empty.

    Args:
        unlabelled: `Texts`; a list of texts, pairs of texts, or tuples of words; or a file or dataset.
        train: the labeled texts, which are of the same kind.
        text_pair_column: of a file.

    Raises:
        InputError: what is no text of that kind, with its position.

    >>> train = Texts(["a", "b"], ["x", "y"], "train.csv", None)
    >>> pool, empty = as_pool(["c", " ", "d"], train)
    >>> pool.texts, empty
    (['c', 'd'], 1)
    """
    if isinstance(unlabelled, Texts):
        return unlabelled, 0
    if isinstance(unlabelled, str | Path):
        return read_pool(unlabelled, train, text_pair_column=text_pair_column)
    texts: Any = np.asarray(unlabelled).tolist() if hasattr(unlabelled, "__array__") else unlabelled
    of_words = TASKS[train.task].of_words
    kind = "a tuple of words" if of_words else "a pair of texts" if train.pairs else "a text"
    kept: list[Text] = []
    for at, given in enumerate(texts):
        parts = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
        whole = not isinstance(given, str) if of_words or train.pairs else isinstance(given, str)
        fits = whole and (of_words or len(parts) == 1 + train.pairs) and all(isinstance(part, str) for part in parts)
        if not fits:
            raise InputError(f"unlabelled[{at}] is {short(given)}, not {kind}, as the labeled texts are")
        if not "".join(parts).strip():
            continue
        if why := next(filter(None, map(why_no_text, parts)), None):
            raise InputError(f"unlabelled[{at}] is {short(given)}: {why}")
        kept.append(given if isinstance(given, str) else tuple(parts))
    if not kept:
        raise InputError("unlabelled has no texts: omit it, or give some")
    return Texts(kept, None, "unlabelled", None, train.task), len(texts) - len(kept)
