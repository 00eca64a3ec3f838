"""From a teacher and a pool of texts to a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deni.artifact import Classifier
from deni.cross_validation import fit_added
from deni.data import Texts
from deni.distillation.options import Distillation
from deni.distillation.recipes import recipe_of
from deni.distillation.source import check_source
from deni.distillation.student import Student, likeness, make_student
from deni.finetune import FineTuneResult, fine_tune
from deni.recipe import Recipe


def distil(
    teacher: Classifier,
    texts: Texts,
    *,
    labeled: Texts | None = None,
    test: Texts | None = None,
    dev: Texts | None = None,
    augmented: Mapping[str, Sequence[str]] | None = None,
    recipe: Recipe | None = None,
    options: Distillation | None = None,
    progress: bool = True,
    **training: Any,
) -> FineTuneResult:
    """Train one model on the vote of many.

    Args:
        teacher: the model whose vote is learned, see `deni.load`.
        texts: the pool, see `deni.distillation.student.make_student`; so are `labeled`, `test`, `dev`, `augmented`,
            `recipe` and `options`.
        progress: show progress bars.
        training: further arguments of `deni.finetune.fine_tune`, such as `checkpoints` and `device`.

    Returns:
        the student, with the key `distillation` in what it adds to `deni.json`.

    Warns:
        InputWarning: a pool of another source, see `deni.distillation.source`.
    """
    teacher.progress = progress
    options = options or Distillation()
    recipe = recipe or recipe_of(teacher.info, start=options.start)
    check_source(labeled, texts, recipe, training.get("device"))
    student = make_student(
        teacher, texts, labeled=labeled, test=test, dev=dev, augmented=augmented, recipe=recipe, options=options
    )
    return train_student(student, teacher, labeled=labeled, dev=dev, progress=progress, **training)


def train_student(
    student: Student,
    teacher: Classifier,
    *,
    labeled: Texts | None = None,
    dev: Texts | None = None,
    progress: bool = True,
    **training: Any,
) -> FineTuneResult:
    """Train a student that was made, see `distil`."""
    result = fine_tune(
        student.texts,
        student.recipe,
        dev=dev,
        progress=progress,
        labels=student.labels,
        initial=student.initial,
        text_pair_column=teacher.info.get("text_pair_column") if teacher.pairs else None,
        **training,
    )
    info = {**student.info, "seconds": round(result.seconds, 1), "member_steps": result.member_steps}
    result.added["distillation"] = info
    if result.interrupted:
        return result
    if len(student.held_out):
        votes = result.classifier(progress).votes(student.held_out.texts)
        if (alike := likeness(votes, student.votes, teacher.task)) is not None:
            info["agreement"] = alike
    fit_added(result, student.texts if labeled is None else labeled, dev, progress)
    return result
