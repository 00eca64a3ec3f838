"""From labeled and unlabeled texts to one model: a teacher is trained, and then its student."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from deni.artifact import Classifier
from deni.cross_validation import cross_validate
from deni.data import Texts
from deni.data.pool import make_pool
from deni.distillation.options import Distillation
from deni.distillation.recipes import as_one_model, as_teacher
from deni.distillation.student import make_student
from deni.distillation.training import train_student
from deni.errors import SettingError
from deni.finetune import FineTuneResult, check_cross_validation, fine_tune
from deni.recipe import Recipe
from deni.strategies.augmentation import Augmentation
from deni.tasks import TASKS

TEACHERS = 10  # members
FOLDS = 5


@dataclass(frozen=True)
class Lesson:
    """What came of it.

    Args:
        teacher: whose vote was learned.
        student: the model.
    """

    teacher: Classifier
    student: FineTuneResult


def teach(
    train: Texts,
    pool: Texts,
    recipe: Recipe,
    *,
    test: Texts | None = None,
    dev: Texts | None = None,
    members: int = TEACHERS,
    distillation: Distillation | None = None,
    augmented: Mapping[str, Sequence[str]] | None = None,
    empty: int = 0,
    block: int = 0,
    progress: bool = True,
    device: Any = None,
    callbacks: Iterable[TrainerCallback] = (),
    text_pair_column: str | None = None,
    output: str | Path | None = None,
) -> Lesson:
    """Train a teacher whose members vote, folds for out-of-fold targets, and the student.

    Args:
        train: labeled examples.
        pool: texts without labels, see `deni.distillation.make_student`; so are `test`, `dev`, `augmented`, `empty`.
        recipe: of the student, with nothing open. The teacher has the same, as an ensemble unless its strategy votes.
        members: of that ensemble.
        distillation: how the student learns; None for the defaults.
        block: decides how the texts are divided into folds.
        callbacks: of the student's training.
        progress, device, text_pair_column, output: as in `deni.finetune.fine_tune`.

    Raises:
        InputError: texts that do not fit, or a pool of nothing; before anything is trained.
    """
    options = distillation or Distillation()
    single = as_one_model(recipe.strategy, options.start)
    own = dataclasses.replace(recipe, strategy=single, class_weights=False)
    given: dict[str, Any] = {"labeled": train, "test": test, "dev": dev, "augmented": augmented, "empty": empty}
    if options.vote_temperature is not None and not TASKS[train.task].chooses:
        raise SettingError("vote_temperature is for probabilities, and the teacher predicts numbers: omit it")
    if augmented and any(isinstance(part, Augmentation) for part in recipe.strategy.parts):
        raise SettingError(
            f"the strategy {recipe.strategy.name} trains the teacher on augmented texts, which it then knows: omit "
            "augmented, or choose another strategy"
        )
    make_pool(pool, **given)  # raises
    where: dict[str, Any] = {"progress": progress, "device": device, "text_pair_column": text_pair_column}
    result = train_teacher(train, recipe, members=members, dev=dev, block=block, **where)
    teacher = result.classifier(progress)
    student = make_student(teacher, pool, **given, recipe=own, options=options)
    learned = train_student(
        student,
        teacher,
        labeled=train,
        dev=dev,
        progress=progress,
        device=device,
        callbacks=callbacks,
        output=output,
    )
    learned.text_pair_column = result.text_pair_column
    return Lesson(teacher, learned)


def train_teacher(
    train: Texts,
    recipe: Recipe,
    *,
    members: int = TEACHERS,
    dev: Texts | None = None,
    block: int = 0,
    progress: bool = True,
    device: Any = None,
    text_pair_column: str | None = None,
) -> FineTuneResult:
    """Train members that vote, and folds that predict the labeled texts.

    The folds train one member each, as the student is one: targets of labeled texts are what a single model predicts
    that has not seen them. There are five, fewer where no class has five texts, none where no class has two; labels
    then stand alone. The vote is not calibrated: no fold has trained what votes.

    Args:
        train: labeled examples.
        recipe: with nothing open; the teacher is an ensemble of it unless its strategy votes.
        members: of that ensemble.
        block: decides how the texts are divided into folds.
        dev, progress, device, text_pair_column: as in `deni.finetune.fine_tune`.

    Raises:
        InputError: texts that do not fit; before anything is trained.
    """
    folds = folds_of(train)
    if folds is not None:
        check_cross_validation(train, folds, 1, dev=False)
    taught, single = as_teacher(recipe, members), as_one_model(recipe.strategy)
    result = fine_tune(train, taught, dev=dev, progress=progress, device=device, text_pair_column=text_pair_column)
    if folds is not None:
        of_one = dataclasses.replace(result, recipe=dataclasses.replace(recipe, strategy=single), added={})
        began = time.perf_counter()
        steps = cross_validate(of_one, train, folds, 1, block, progress)
        result.out_of_fold = of_one.out_of_fold
        spent = {"member_steps": steps, "seconds": round(time.perf_counter() - began, 1)}
        result.added["distillation"] = {"folds": spent}
    return result


def folds_of(train: Texts) -> int | None:
    """Into how many folds labeled texts are divided; None for those of which no class has two."""
    different = len(set(train.exact_keys)) // 2
    if TASKS[train.task].one_class:
        different = min(different, max(Counter(train.labels or ()).values()))
    return min(FOLDS, different) if different > 1 else None
