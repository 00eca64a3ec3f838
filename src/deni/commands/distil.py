"""What `deni distil` does: a model and a pool of unlabeled texts become a student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deni.artifact import load
from deni.commands.reading import read_for_model
from deni.commands.train import TrainingRun, check_beside, make_files
from deni.data import local_file, read_augmented
from deni.distillation import Distillation, Student, make_student, train_student
from deni.distillation.measuring import compare_on_test
from deni.distillation.recipes import recipe_of
from deni.distillation.source import check_source
from deni.errors import InputError
from deni.inputs import candidates
from deni.outputs import check_folder
from deni.training import manifest


def distil_file(
    teacher: str | Path,
    *,
    texts: str | Path,
    output: str | Path,
    labeled: str | Path | None = None,
    test: str | Path | None = None,
    dev: str | Path | None = None,
    augmented: str | Path | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    model: str | None = None,
    strategy: str | None = None,
    tuning: str | None = None,
    distillation: Distillation | None = None,
    overwrite: bool = False,
    resume: bool = False,
    save_steps: int | None = None,
    device: str | None = None,
    progress: bool = True,
    extra_files: Callable[[TrainingRun], Mapping[str, bytes]] | None = None,
    on_student: Callable[[Student], None] | None = None,
    **given: Any,
) -> TrainingRun:
    """Train one model on the vote of a model, measure both on the test texts, write the artifact.

    Args:
        teacher: what `deni train` wrote, or another model of transformers.
        texts: the pool: a file, `-` for standard input (CSV), or a dataset as in `deni.commands.train.train_file`;
            labels in it are not read.
        output: folder of the artifact; must not exist, unless `overwrite`.
        labeled: the texts that the teacher was trained on, with their labels.
        test: labeled texts to measure on, which are left out of the others; so are those of `dev`.
        dev: labeled texts on which the best epoch is chosen, and the temperature of the student is fitted.
        augmented: a file with the columns `seed` and `text`, see `deni.data.read_augmented`: its texts join the pool.
        text_column, text_pair_column, label_column: of all files.
        split, config_name: of the pool on the hub, see `deni.data.read_data`.
        model, strategy, tuning, given: of the student, where they are not the teacher's; see
            `deni.distillation.recipes.recipe_of`.
        distillation: how it learns; None for the defaults.
        resume: continue from the newest whole checkpoint of the same output.
        extra_files: as in `deni.commands.train.train_file`.
        on_student: called before the training with what is trained.

    Raises:
        InputError: a file, column, text, label or folder that does not fit; before anything is trained.
    """
    options = distillation or Distillation()
    files = (teacher, texts, local_file(str(texts)), labeled, test, dev, augmented, model)
    check_folder(output, overwrite, files)
    check_beside(manifest.checkpoint_folder(output))
    if model is not None and candidates(model):
        raise InputError(f"a student is one model: name it in place of {model}")
    classifier = load(teacher, device)
    classifier.progress = progress
    recipe = recipe_of(classifier.info, model, options.start, strategy, tuning, **given)
    empty: list[int] = []
    pool = read_for_model(
        classifier,
        texts,
        text_pair_column,
        text_column=text_column,
        split=split,
        config_name=config_name,
        labels=False,
        on_blank=empty.append,
    )
    columns = {"text_column": text_column, "label_column": label_column}
    parts = {
        name: None if file is None else read_for_model(classifier, file, text_pair_column, **columns)
        for name, file in (("labeled", labeled), ("test", test), ("dev", dev))
    }
    for part in parts.values():
        if part is not None and part.labels is None:
            raise InputError(f"{part.source} has no labels: name their column with --label-column")
    more = None if augmented is None else read_augmented(augmented)
    check_source(parts["labeled"], pool, recipe, device)
    student = make_student(classifier, pool, **parts, augmented=more, recipe=recipe, options=options, empty=sum(empty))
    if on_student is not None:
        on_student(student)
    result = train_student(
        student,
        classifier,
        labeled=parts["labeled"],
        dev=parts["dev"],
        progress=progress,
        checkpoints=manifest.checkpoint_folder(output),
        save_steps=save_steps,
        resume=resume,
        device=device,
        output=output,
    )
    named = {"teacher": teacher, "texts": texts, "labeled": labeled, "test": test, "dev": dev, "augmented": augmented}
    result.data = {
        "data": str(labeled or texts),
        **{name: None if value is None else str(value) for name, value in named.items()},
        "split": split,
        "config_name": config_name,
    }
    if result.interrupted:
        return TrainingRun(result, {}, None)
    metrics: dict[str, Any] = {"train_texts": len(student.texts)}
    evaluation = None
    if parts["test"] is not None:
        evaluation = result.test(parts["test"], progress)
        result.added["distillation"]["test"] = compare_on_test(classifier, evaluation, recipe.seed)
        metrics |= {**evaluation.metrics, "test_texts": len(parts["test"])}
    done = TrainingRun(result, metrics, None, evaluation, resume, parts["labeled"], progress)
    written = result.save(output, metrics, overwrite, make_files(done, extra_files), files, checked=True)
    return dataclasses.replace(done, output=written)
