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

from deni.artifact import OUT_OF_FOLD, Classifier, as_bytes, load
from deni.artifact.out_of_fold import out_of_fold_in
from deni.cross_validation.training import TrainedFolds, train_folds
from deni.data import Texts
from deni.data.pool import make_pool
from deni.distillation.options import Distillation
from deni.distillation.recipes import as_one_model, as_teacher
from deni.distillation.source import check_source
from deni.distillation.stages import FOLDS, STUDENT, TEACHER, Stages
from deni.distillation.student import check_temperature, make_student
from deni.distillation.training import train_student
from deni.errors import SettingError
from deni.finetune import FineTuneResult, check_cross_validation, fine_tune
from deni.finetune.making import Reads
from deni.finetune.running import class_weights, make_origin
from deni.models.devices import find_device
from deni.outputs import write_bytes
from deni.recipe import Recipe
from deni.strategies.augmentation import Augmentation
from deni.tasks import TASKS
from deni.training.saving import origin_of

TEACHERS = 10  # members
MOST_FOLDS = 5
MODEL = "model"  # name of the folder where a finished teacher is kept


@dataclass(frozen=True)
class Lesson:
    """What came of it.

    Args:
        teacher: whose vote was learned; None where Ctrl-C has stopped the training before it was there.
        student: the model; what was trained so far where Ctrl-C has stopped it, with its checkpoint.
    """

    teacher: Classifier | None
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
    checkpoints: str | Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
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
        checkpoints, save_steps, resume: as in `deni.finetune.fine_tune`, of each stage, see `deni.distillation.stages`.

    Raises:
        InputError: texts that do not fit, or a pool of nothing; before anything is trained.

    Warns:
        InputWarning: a pool of another source, see `deni.distillation.source`.
    """
    options = distillation or Distillation()
    single = as_one_model(recipe.strategy, options.start)
    own = dataclasses.replace(recipe, strategy=single, class_weights=False)
    given: dict[str, Any] = {"labeled": train, "test": test, "dev": dev, "augmented": augmented, "empty": empty}
    check_temperature(options, TASKS[train.task])
    if augmented and any(isinstance(part, Augmentation) for part in recipe.strategy.parts):
        raise SettingError(
            f"the strategy {recipe.strategy.name} trains the teacher on augmented texts, which it then knows: omit "
            "augmented, or choose another strategy"
        )
    make_pool(pool, **given)  # raises
    check_source(train, pool, recipe, device)
    where: dict[str, Any] = {"progress": progress, "device": device, "text_pair_column": text_pair_column}
    folds = _checked_folds(train)
    with Stages(checkpoints, save_steps, resume) as stages:
        taught = as_teacher(recipe, members)
        teacher = _trained_teacher(train, taught, dev, stages, **where)
        if isinstance(teacher, FineTuneResult):
            return Lesson(None, teacher)
        if folds is not None:
            found = _trained_folds(train, recipe, teacher, folds, block, stages, **where)
            if found.interrupted is not None:
                stages.interrupt()
                return Lesson(None, found.interrupted)
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
            **stages.training(STUDENT),
        )
        if learned.interrupted:
            stages.interrupt()
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
    where: dict[str, Any] = {"progress": progress, "device": device, "text_pair_column": text_pair_column}
    folds, taught = _checked_folds(train), as_teacher(recipe, members)
    result = fine_tune(train, taught, dev=dev, **where)
    if folds is not None:
        teacher = result.classifier()
        _trained_folds(train, recipe, teacher, folds, block, Stages(None), **where)
        result.out_of_fold, result.added["distillation"] = teacher.out_of_fold, teacher.info["distillation"]
    return result


def _trained_teacher(
    train: Texts, recipe: Recipe, dev: Texts | None, stages: Stages, progress: bool, device: Any, **more: Any
) -> Classifier | FineTuneResult:
    """The members that vote, trained or as they were kept; what was trained so far where Ctrl-C has stopped it."""
    origin = make_origin(recipe, train, dev) | origin_of(recipe.strategy, recipe.strategy.settings())
    origin |= {"seed": recipe.seed}
    kept = stages.finished(TEACHER, origin)
    if kept is not None:
        return load(kept["folder"] / MODEL, device)
    result = fine_tune(train, recipe, dev=dev, progress=progress, device=device, **more, **stages.training(TEACHER))
    if result.interrupted:
        return result
    stages.finish(TEACHER, origin, lambda folder: result.save(folder / MODEL, overwrite=True))
    teacher = result.classifier(progress)
    if teacher.population.size > 1:  # as many at a time as in one that is loaded, so that bits are the same
        teacher.population.module.choose(teacher.population.engine_name)
    return teacher


def _trained_folds(
    train: Texts,
    recipe: Recipe,
    teacher: Classifier,
    folds: int,
    block: int,
    stages: Stages,
    progress: bool,
    device: Any,
    text_pair_column: str | None,
) -> TrainedFolds:
    """Give a teacher the out-of-fold predictions of single models, trained or as they were kept."""
    of_one = dataclasses.replace(recipe, strategy=as_one_model(recipe.strategy))
    origin = make_origin(of_one, train) | origin_of(of_one.strategy, of_one.strategy.settings())
    origin |= {"seed": recipe.seed, "folds": folds, "block": block}
    kept = stages.finished(FOLDS, origin)
    if kept is not None:
        spent = kept["spent"]
        found = TrainedFolds(out_of_fold_in(kept["folder"] / OUT_OF_FOLD), spent["member_steps"])
    else:
        weights = class_weights(train, teacher.labels) if recipe.class_weights else None
        assert teacher.max_length is not None
        reads = Reads(teacher.tokenizer, teacher.labels, teacher.max_length, weights)
        shared: dict[str, Any] = {"text_pair_column": text_pair_column, "progress": progress}
        shared |= {"device": find_device(device), **stages.training(FOLDS)}
        began = time.perf_counter()
        found = train_folds(of_one, reads, train, folds, 1, block, **shared)
        spent = {"member_steps": found.member_steps, "seconds": round(time.perf_counter() - began, 1)}
        if (predicted := found.out_of_fold) is None:
            return found
        content = as_bytes(predicted)
        stages.finish(
            FOLDS, origin, lambda folder: write_bytes(folder / OUT_OF_FOLD, content, overwrite=True), spent=spent
        )
    teacher.out_of_fold, teacher.info["distillation"] = found.out_of_fold, {"folds": spent}
    return found


def _checked_folds(train: Texts) -> int | None:
    """As `folds_of`; raises InputError for texts that cannot be divided so."""
    folds = folds_of(train)
    if folds is not None:
        check_cross_validation(train, folds, 1, dev=False)
    return folds


def folds_of(train: Texts) -> int | None:
    """Into how many folds labeled texts are divided; None for those of which no class has two."""
    different = len(set(train.exact_keys)) // 2
    if TASKS[train.task].one_class:
        different = min(different, max(Counter(train.labels or ()).values()))
    return min(MOST_FOLDS, different) if different > 1 else None
