"""`fine_tune` with texts that have no labels: a teacher, and its student as the result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deni.auto import decide
from deni.data import Texts, why_no_text
from deni.data.pool import read_pool
from deni.data.texts import Text
from deni.errors import InputError, SettingError, short
from deni.inputs import check_one_training
from deni.recipe import Recipe
from deni.tasks import TASKS

if TYPE_CHECKING:
    from deni.distillation import Distillation
    from deni.finetune.result import FineTuneResult

Unlabelled = Texts | Sequence[Text] | str | Path


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


def fine_tune_with_pool(
    train: Texts,
    recipe: Recipe,
    unlabelled: Unlabelled,
    *,
    test: Texts | None = None,
    dev: Texts | None = None,
    teachers: int | None = None,
    distillation: Distillation | None = None,
    block: int = 0,
    progress: bool = True,
    device: Any = None,
    one_training: dict[str, Any],
    **training: Any,
) -> FineTuneResult:
    """The student of a teacher that is trained as the recipe says, see `deni.distillation.teaching.teach`.

    Args:
        unlabelled: see `as_pool`.
        one_training: arguments of `fine_tune` that are for one training; None where they were not given.
        training: further arguments of `teach`.

    Raises:
        InputError: what only one training can have, or texts that cannot serve; before anything is trained.
    """
    from deni.distillation.teaching import TEACHERS, teach

    check_one_training(one_training, "unlabelled")
    pool, empty = as_pool(unlabelled, train, training.get("text_pair_column"))
    recipe = decide(recipe, train, device=device, progress=progress)
    members = TEACHERS if teachers is None else teachers
    shared: dict[str, Any] = {"test": test, "dev": dev, "block": block, "progress": progress, "device": device}
    lesson = teach(train, pool, recipe, members=members, distillation=distillation, empty=empty, **shared, **training)
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
