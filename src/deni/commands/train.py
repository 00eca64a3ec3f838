"""What `deni train` does: a file of labeled examples becomes an artifact."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deni.auto import decide
from deni.commands.parts import read_parts
from deni.cross_validation import cross_validate, fit_added
from deni.data import Texts, check_trainable, local_file, read_augmented
from deni.data.partition import HELD_OUT
from deni.data.pool import read_pool
from deni.distillation import Distillation
from deni.distillation.measuring import compare_on_test
from deni.distillation.teaching import TEACHERS, teach
from deni.errors import InputError, InputWarning
from deni.finetune import Evaluation, FineTuneResult, check_cross_validation, fine_tune
from deni.finetune.generating import refuse_for_generation
from deni.finetune.precision import settle
from deni.inputs import candidates, check_one_training
from deni.outputs import SavedElsewhereError, check_folder, check_name
from deni.recipe import Recipe
from deni.tasks import TASKS
from deni.training import manifest
from deni.training.curves import Tool, curves_folder
from deni.training.loggers import check_tool, curves_to


@dataclass(frozen=True)
class TrainingRun:
    """A finished `deni train`.

    Args:
        result: the trained population.
        metrics: on the test split, and how many texts were used.
        output: the artifact; None where training was interrupted.
        evaluation: predictions for the test split; None without one.
        resumed: whether training went on from a checkpoint.
        train: the texts that it was trained on.
        progress: whether what is measured afterwards shows how far it is.
    """

    result: FineTuneResult
    metrics: dict[str, Any]
    output: Path | None
    evaluation: Evaluation | None = None
    resumed: bool = False
    train: Texts | None = None
    progress: bool = False


def check_beside(folder: Path) -> None:
    """Raise InputError where what goes beside an artifact, its checkpoints or curves, cannot have its name."""
    check_name(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and checkpoints or curves go there: choose another output")


def train_file(
    file: str | Path,
    *,
    recipe: Recipe,
    output: str | Path,
    test: str | None = "auto",
    test_size: int | None = None,
    dev: str | None = None,
    cv: int | None = None,
    cv_seeds: int | None = None,
    keep_folds: bool = False,
    unlabelled: str | Path | None = None,
    augmented: str | Path | None = None,
    teachers: int | None = None,
    distillation: Distillation | None = None,
    labelled: int | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    label_order: Sequence[str] = (),
    split: str | None = None,
    config_name: str | None = None,
    block: int = 0,
    preset: str | None = None,
    protocol: Literal["paper"] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    resume_from: str | Path | None = None,
    save_steps: int | None = None,
    report_to: Tool = "none",
    device: str | None = None,
    extra_files: Callable[[TrainingRun], Mapping[str, bytes]] | None = None,
    progress: bool = True,
    on_recipe: Callable[[Recipe], None] | None = None,
) -> TrainingRun:
    """Train on a file or dataset, evaluate on the test split, write the artifact.

    Args:
        file: CSV, TSV, JSONL, Parquet or CoNLL, also gzipped, or `-` for standard input; the name of a dataset
            (`deni.data.DATASETS`), or `user/dataset` of the hub.
        output: folder of the artifact; must not exist, unless `overwrite`.
        test: a file, or a fraction of the texts between 0 and 1 (stratified); None or 0 for no test split; `auto`: 0.2,
            or none with `cv`.
        test_size: how many texts of the test split to keep, stratified by class; None for all.
        dev: as `test`, of what is left; None for no dev split.
        cv: how many folds estimate the score of the model, which is trained on all texts but those of `test`; None for
            no cross-validation. See `deni.finetune.fine_tune`.
        cv_seeds: how many times the texts are divided into folds anew; None for once.
        keep_folds: whether the artifact keeps the models of `cv`, for `deni predict --sets`.
        unlabelled: a file of texts without labels, or a dataset: then a teacher is trained as the recipe says, whose
            members vote, and the model is its student, see `deni.distillation.teaching.teach`.
        augmented: a file with the columns `seed` and `text`, see `deni.data.read_augmented`: its texts join those
            without labels. A strategy that trains on augmented texts names their file itself.
        teachers: members of the ensemble that teaches, where the strategy does not vote by itself; None for 10.
        distillation: how the student learns; None for the defaults.
        labelled: how many texts to train on, class-balanced; None for all.
        text_column, label_column: None for the dataset's own, or `text` and `label`.
        text_pair_column: the column of a second text; None for the dataset's own, or one text a row.
        label_order: the classes from the lowest to the highest, see `deni.data.read_data`.
        split, config_name: of the hub, see `deni.data.read_data`.
        block: seed of the test split and of the choice of labeled examples, where `recipe.source_seeds` has none;
            `recipe.seed` decides the rest.
        preset: what the recipe was made with. With `paper` or `released` a named dataset of pairs is read as one text a
            pair, unless the recipe has pairs `bi`; `released` takes ceil(labelled/C) texts of each of the C classes.
        protocol: `paper`: the preset `paper` unless another is given, and 1,000 labeled texts unless `labelled` says
            otherwise.
        resume: continue from the newest whole checkpoint of the same output.
        resume_from: a checkpoint, a folder with checkpoints, or the output of another command, to continue from.
        device: where to compute, see `deni.models.devices.find_device`.
        report_to: where the curves go while it trains; TensorBoard's files are in
            `deni.training.curves.curves_folder`.
        extra_files: makes further files of the artifact, by name, when the model is trained and measured; where it
            fails the artifact is written without them, with a warning.
        on_recipe: called before the training with what is trained, with what `auto` became.

    Raises:
        InputError: a file, column, text, label, fraction or folder that does not fit; before anything is trained.
    """
    if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:  # all would write one output
        raise InputError(
            f"`deni train` trains in one process, not in {os.environ['WORLD_SIZE']} as torchrun started it: start it "
            "alone, or give torchrun a script with PopulationTrainer"
        )
    if protocol not in (None, "paper"):
        raise InputError(f"unknown protocol {protocol!r}: choose paper")
    preset = preset or protocol
    if cv is None and cv_seeds is not None:
        raise InputError("cv_seeds divides the texts of cv anew: give cv, too, or omit it")
    if cv is None and keep_folds:
        raise InputError("keep_folds keeps the models of cv: give cv, too, or omit it")
    if test == "auto":
        test = HELD_OUT if cv is None else None
    if test is None and test_size is not None and cv is not None:
        raise InputError("with cv there is no test split unless test is given: give test, too, or omit test_size")
    if unlabelled is not None:
        check_one_training({"cv": cv, "resume_from": resume_from}, "unlabelled")
    if resume and resume_from is not None:
        raise InputError("give either resume or resume_from, not both")
    start = None if resume_from is None else manifest.named(resume_from)
    if unlabelled is None and augmented is not None:
        raise InputError("augmented joins texts without labels: give unlabelled, too, or a strategy that takes it")
    trained_on = [part.settings().get("augmented") for part in recipe.strategy.parts]
    models = candidates(recipe.model) or [recipe.model]
    inputs = (file, local_file(str(file)), test, dev, *models, *trained_on, start, unlabelled, augmented)
    check_folder(output, overwrite, inputs)
    check_beside(manifest.checkpoint_folder(output))
    if report_to == "tensorboard":
        check_beside(curves_folder(output, resume).parent)
    check_tool(report_to)
    train, tested, developed = read_parts(
        file,
        recipe,
        test=test,
        test_size=test_size,
        dev=dev,
        labelled=labelled,
        text_column=text_column,
        text_pair_column=text_pair_column,
        label_column=label_column,
        label_order=label_order,
        split=split,
        config_name=config_name,
        block=block,
        preset=preset,
        protocol=protocol,
    )
    task = TASKS[recipe.task]
    if task.generates:
        refuse_for_generation(recipe.task, cv=cv, unlabelled=unlabelled, preset=preset)
    check_trainable(train, tested, developed)
    if cv is not None:
        check_cross_validation(train, cv, cv_seeds or 1, developed is not None)
    recipe = settle(decide(recipe, train, device=device, progress=progress), device)
    if on_recipe is not None:
        on_recipe(recipe)
    callbacks = curves_to(report_to, curves_folder(output, resume), Path(output).name, recipe.settings(), resume)
    lesson = None
    if unlabelled is not None:
        columns = {"text_column": text_column, "split": split, "config_name": config_name}
        pool, empty = read_pool(unlabelled, train, text_pair_column=text_pair_column, **columns)
        lesson = teach(
            train,
            pool,
            recipe,
            test=tested,
            dev=developed,
            members=teachers or TEACHERS,
            distillation=distillation,
            augmented=None if augmented is None else read_augmented(augmented),
            empty=empty,
            block=block,
            progress=progress,
            device=device,
            callbacks=callbacks,
            text_pair_column=text_pair_column,
            output=output,
            checkpoints=manifest.checkpoint_folder(output),
            save_steps=save_steps,
            resume=resume,
        )
        result = lesson.student
    else:
        result = fine_tune(
            train,
            recipe,
            dev=developed,
            checkpoints=manifest.checkpoint_folder(output),
            save_steps=save_steps,
            resume=resume,
            start_from=start,
            progress=progress,
            device=device,
            callbacks=callbacks,
            text_pair_column=text_pair_column,
            output=output,
        )
    named = {"data": str(file), "split": split, "config_name": config_name, "protocol": protocol, "preset": preset}
    parts: dict[str, Any] = {"test": test, "test_size": test_size, "dev": dev, "labelled": labelled, "block": block}
    folds = {} if cv is None else {"cv": cv, "cv_seeds": cv_seeds or 1}
    if unlabelled is not None:
        parts |= {"unlabelled": str(unlabelled), **({} if augmented is None else {"augmented": str(augmented)})}
    result.data = {**named, **parts, **folds, **({"label_order": list(label_order)} if label_order else {})}
    if result.interrupted:
        return TrainingRun(result, {}, None)
    metrics: dict[str, Any] = {"train_texts": len(train)}

    def save(files: Mapping[str, bytes]) -> Path:
        try:
            return result.save(output, metrics, overwrite, files, inputs, checked=True)
        except SavedElsewhereError:
            raise
        except InputError as error:  # nor could it be saved elsewhere
            if result.checkpoint is None:
                raise
            why = f"{error}, but {result.checkpoint} is there: free space and give the same command with --resume"
            raise InputError(why) from error

    try:
        if cv is not None:  # after the model, which is saved if this fails or is interrupted
            cross_validate(result, train, cv, cv_seeds or 1, block, progress, keep_folds)
        if lesson is None and not task.generates:
            fit_added(result, train, developed, progress)
        evaluation = None if tested is None else result.test(tested, progress)
        if lesson is not None and lesson.teacher is not None and evaluation is not None:
            result.added["distillation"]["test"] = compare_on_test(lesson.teacher, evaluation, recipe.seed)
        if evaluation is not None:
            metrics |= {**evaluation.metrics, "test_texts": len(evaluation.texts)}
            result.trainer.log({f"test_{name}": value for name, value in evaluation.metrics.items()})
        done = TrainingRun(result, metrics, None, evaluation, resume or start is not None, train, progress)
        files = make_files(done, extra_files)
    except (Exception, KeyboardInterrupt):  # too little memory, say: the model is trained all the same
        warnings.warn(f"{save({})} has the model: what failed came after the training", InputWarning, stacklevel=2)
        raise
    return dataclasses.replace(done, output=save(files))


def make_files(
    done: TrainingRun, extra_files: Callable[[TrainingRun], Mapping[str, bytes]] | None
) -> Mapping[str, bytes]:
    """What `extra_files` of `train_file` makes; nothing where it fails: no page is worth a trained model."""
    try:
        return extra_files(done) if extra_files is not None else {}
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        warnings.warn(f"the report failed and is left out ({why})", InputWarning, stacklevel=2)
        return {}
