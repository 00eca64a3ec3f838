"""A cell whose model is a student: its teacher is trained, or found, and then the student."""

from __future__ import annotations

import dataclasses
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deni.artifact import Classifier, load
from deni.data import Texts
from deni.distillation import Distillation, make_student, train_student
from deni.distillation.teaching import train_teacher
from deni.errors import InputWarning, TrainingDivergedError
from deni.finetune import FineTuneResult
from deni.models.devices import find_device
from deni.models.tokenizing import encode
from deni.provenance import digest, environment
from deni.recipe import Recipe
from deni.study.cell import CellResult
from deni.study.distilled import Distilled
from deni.study.execution.job import Job
from deni.study.library import Library
from deni.tasks import TASKS

TEACHER = "teacher-"  # and a digest: name of the folder where a teacher is kept


def run_distilled(
    jobs: Sequence[Job], library: Library, kept: str | None = None, device: str | None = None
) -> list[CellResult | str]:
    """Train the student of each cell, one after another; for a run that diverged why, in place of its result.

    Args:
        jobs: of cells that differ in `seed` alone.
        library: what is read already.
        kept: folder for teachers, which cells that differ in the pool or the student share; None trains each anew.
        device: where to train, see `deni.models.devices.find_device`.

    Raises:
        InputError, SettingError: texts or settings for which it makes no sense.
    """
    return [_outcome(job, library, kept, device) for job in jobs]


def _outcome(job: Job, library: Library, kept: str | None, device: str | None) -> CellResult | str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)  # each was shown when the study was read
        try:
            return _result(job, library, kept, device)
        except TrainingDivergedError as error:
            return "".join(traceback.format_exception_only(error)).strip()


def _result(job: Job, library: Library, kept: str | None, device: str | None) -> CellResult:
    asked = job.recipe.strategy
    assert isinstance(asked, Distilled)
    train, measured = job.texts(library)
    recipe = dataclasses.replace(job.recipe, strategy=asked.strategy)
    teacher = _teacher(job, asked, train, recipe, kept, device)
    student = make_student(
        teacher,
        library.unlabeled(job.cell, asked),
        labeled=train,
        test=measured,
        recipe=recipe,
        options=Distillation(start=asked.student_start, labels_share=asked.labels_share, pool_size=asked.pool_size),
    )
    result = train_student(student, teacher, labeled=train, progress=False, device=device)
    gold, task = encode(measured, result.labels), TASKS[recipe.task]
    half = bool(recipe.bf16)  # as the other rows
    with torch.autocast(result.trainer.args.device.type, torch.bfloat16, enabled=half):
        members = result.classifier().members(measured.texts)
        taught = task.scores(gold, teacher.votes(measured.texts), result.labels)
    found: dict[str, Any] = result.added["distillation"]
    spent = [found, found["teacher"], found["teacher"].get("folds", {})]
    return CellResult(
        log_probs=members,
        gold=np.asarray(gold),
        text_ids=measured.frame.index.to_numpy(),
        labels=tuple(result.labels),
        fingerprint=library.fingerprint_of_data(job.cell),
        metrics=task.scores(gold, members[:, 0], result.labels),
        cost={name: round(sum(each.get(name, 0) for each in spent), 3) for name in ("member_steps", "seconds")},
        diagnostics={"pack": 1, "teacher": taught, "distillation": found},
        environment=environment(find_device(device)),
    )


def _teacher(
    job: Job, asked: Distilled, train: Texts, recipe: Recipe, kept: str | None, device: str | None
) -> Classifier:
    """Trained, or from where a cell of the same teacher left it."""

    def trained() -> FineTuneResult:
        return train_teacher(train, recipe, members=asked.teachers, block=job.cell.block, progress=False, device=device)

    if kept is None:
        return trained().classifier()
    settings = {**job.decides["strategy"]["settings"]}
    for name in ("pool_size", "pool_of", "student_start", "labels_share"):
        settings.pop(name, None)
    folder = Path(kept) / f"{TEACHER}{digest({**job.decides, 'strategy': settings})[:32]}"
    if not folder.exists():
        fitted = trained()
        if not folder.exists():  # another process may have had the same one under way
            fitted.save(folder)
    return load(folder, device=device)
