"""From labeled examples to a trained population: the recipe, the model, the tokens, the run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from deni.auto import decide
from deni.data import Texts, names
from deni.data.values import has_surrogate
from deni.errors import InputError, SettingError, TrainingDivergedError
from deni.finetune.generating import GeneratorResult, reads_for, refuse_for_generation
from deni.finetune.making import Reads, bar_of, make_arguments, make_trainer, padding_of
from deni.finetune.precision import settle
from deni.finetune.result import FineTuneResult
from deni.finetune.stopping import Patience, StopOnInterrupt
from deni.finetune.together import check_together, origin_of_runs, refuse_with_several
from deni.finetune.unlabelled import Augmented, PoolArguments, Unlabelled, one_spelling
from deni.inputs import check_one_training
from deni.models.devices import find_device
from deni.models.loading import load_config, load_tokenizer, token_limit
from deni.models.pair_rows import check_pairs
from deni.models.pairs import check_architecture
from deni.models.tokenizing import choose_max_length, encode, soft_columns
from deni.provenance import digest_of_text
from deni.recipe import Recipe
from deni.tasks import TASKS
from deni.training import manifest
from deni.training.room import RoomForArtifact

if TYPE_CHECKING:
    from deni.distillation import Distillation


def fine_tune(
    train: Texts,
    recipe: Recipe | Sequence[Recipe],
    *,
    dev: Texts | None = None,
    seeds: Sequence[int] | None = None,
    checkpoints: str | Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
    start_from: str | Path | None = None,
    progress: bool = True,
    device: str | torch.device | None = None,
    callbacks: Iterable[TrainerCallback] = (),
    text_pair_column: str | None = None,
    output: str | Path | None = None,
    cv: int | None = None,
    cv_seeds: int = 1,
    keep_folds: bool = False,
    block: int = 0,
    labels: Sequence[str] | None = None,
    initial: Mapping[str, Tensor] | None = None,
    unlabelled: Unlabelled | None = None,
    unlabeled: Unlabelled | None = None,
    augmented: Augmented | None = None,
    teachers: int | None = None,
    distillation: Distillation | None = None,
    test: Texts | None = None,
) -> FineTuneResult:
    """Train a population on labeled examples.

    Args:
        train: with labels.
        recipe: how; what `auto` becomes is decided here, see `deni.auto`. Several are trained in lock-step, one run for
            each, with its own seed; they may differ in the seed, the learning rate, the dropout, the rank, scaling and
            dropout of LoRA, and the noise of forks.
        dev: labeled examples on which the best epoch is chosen; None keeps the last.
        seeds: train one run for each, in lock-step, in place of `recipe.seed`.
        checkpoints: folder for checkpoints; None for none.
        save_steps: optimizer steps between checkpoints; None: only after Ctrl-C.
        resume: continue from the newest whole checkpoint among `checkpoints`; a warning names later ones.
        start_from: a checkpoint to continue from, or a folder with checkpoints, in place of `checkpoints`.
        progress: show a progress bar.
        device: where to train, see `deni.models.devices.find_device`.
        callbacks: of transformers.
        text_pair_column: what the column of the second texts is called, where the texts are pairs.
        output: where the artifact will be saved; whether there is room for it is asked before the first step.
        cv: also train so many models that each leave a part of the texts out, see `deni.cross_validation`; the result
            has their `out_of_fold` predictions, and an estimate in `added`. The model itself stays as it is without.
        cv_seeds: how many times the texts are divided anew for `cv`, each time with other seeds.
        keep_folds: whether the artifact keeps the models of `cv`, see `deni.artifact.Classifier.conformal`.
        block: seed of these divisions, where `recipe.source_seeds` has none for data_split.
        labels: class names in the order of the outputs; None for those of the texts.
        initial: the values that the model starts from, by the names of its `state_dict`, all of them; None for the
            pre-trained ones.
        unlabelled, unlabeled: two spellings of one argument: texts without labels, as `Texts`, a list, or a file. Then
            a teacher is trained as the recipe says, whose members vote, and the result is its student, see
            `deni.distillation.teaching.teach`: as with `deni train --unlabeled`, to the bit.
        augmented: texts that join `unlabelled`, by the text that they were made from, or a file, see
            `deni.data.read_augmented`. Those of texts that are measured on are left out.
        teachers: members of the ensemble that teaches, where the strategy does not vote by itself; None for 10.
        distillation: how the student learns; None for the defaults.
        test: examples that will be measured on: those among `unlabelled` are left out. Nothing else is done with them.

    Raises:
        InputError: a model that cannot be loaded, texts that do not fit, nothing to resume, no room for the artifact.
        SettingError: arguments, or several recipes, that do not go together.
        TrainingDivergedError: every run ended with a non-finite loss.
    """
    several: Sequence[Recipe] = () if isinstance(recipe, Recipe) else list(recipe)
    if not isinstance(recipe, Recipe):
        pools = unlabelled or unlabeled or augmented
        refuse_with_several(several, seeds=seeds, cv=cv, unlabelled=pools, output=output, initial=initial)
        recipe, seeds = several[0], [each.seed for each in several]
    if train.labels is None:
        raise InputError(f"{train.source}: training needs labels")
    if train.task != recipe.task:
        raise InputError(f"{train.source}: labels of {train.task} for a recipe of {recipe.task}: choose one task")
    pool = PoolArguments(one_spelling(unlabelled, unlabeled), augmented, test, teachers, distillation)
    pool.check()
    if TASKS[recipe.task].generates:
        refuse_for_generation(recipe.task, cv=cv, unlabelled=pool.unlabelled, labels=labels)
    if pool.unlabelled is not None:
        of_one = {"cv": cv, "start_from": start_from, "seeds": seeds, "labels": labels, "initial": initial}
        check_one_training(of_one, "unlabelled")
        saved: dict[str, Any] = {"checkpoints": checkpoints, "save_steps": save_steps, "resume": resume}
        shared: dict[str, Any] = {"dev": dev, "block": block, "progress": progress, "device": device}
        rest: dict[str, Any] = {"callbacks": callbacks, "text_pair_column": text_pair_column, "output": output}
        return pool.fine_tune(train, recipe, **saved, **shared, **rest)
    if cv is not None:
        check_cross_validation(train, cv, cv_seeds, dev is not None, len(seeds or [0]))
    decided = (decide(each, train, device=device, progress=progress) for each in several or [recipe])
    recipes = [settle(each, device) for each in decided]
    check_together(recipes)
    recipe = recipes[0]
    bi = recipe.pairs == "bi"
    for texts in (train, dev) if bi else ():
        if texts is not None:
            check_pairs(texts)
    if recipe.early_stopping_patience and dev is None:
        raise SettingError("early_stopping_patience needs examples to stop by: give a dev split, or leave it out")
    task, labels, target = TASKS[recipe.task], list(labels or names(train)), find_device(device)
    if len(labels) < 2 and task.one_class:
        raise InputError(
            f"{train.source}: all texts have the label {labels[0]!r}, a classifier needs at least 2 classes"
        )
    if broken := next((label for label in labels if has_surrogate(label)), None):
        raise InputError(f"{train.source}: the label {broken!a} has half a surrogate pair, which no file can hold")
    pair = text_pair_column or "text_pair" if train.pairs else None
    if resume and checkpoints is None:
        raise InputError("nothing to resume: there is no checkpoint folder")
    if resume and start_from is not None:
        raise SettingError("give either resume or start_from, not both")
    if resume and checkpoints is not None:
        manifest.settle(Path(checkpoints))
        if not manifest.checkpoints(checkpoints):
            raise InputError(f"{checkpoints} has no checkpoint to resume from: omit --resume")
    tokenizer = load_tokenizer(recipe.model, recipe.task)
    limit = token_limit(recipe.model, tokenizer) - recipe.tuning.virtual_tokens
    if task.generates:
        reads = reads_for(train, recipe, tokenizer, limit)
    else:
        max_length = choose_max_length(tokenizer, train, recipe.max_length, limit, bi)
        weights = class_weights(train, labels) if recipe.class_weights else None
        reads = Reads(tokenizer, labels, max_length, weights)

    if bi:
        check_architecture(load_config(recipe.model))
    with run_folder(checkpoints) as folder:
        args = make_arguments(recipe, folder, save_steps, dev is not None, progress, target)
        interrupt = StopOnInterrupt(saves=checkpoints is not None)
        stopping = recipe.early_stopping_patience
        own = [*callbacks, *([Patience(stopping)] if stopping else []), interrupt]
        origin = {**make_origin(recipe, train, dev, labels, initial), **origin_of_runs(recipes)}
        trainer = make_trainer(recipes, [train], reads, args, own, dev, seeds, origin, initial)
        trainer.reads = {
            "max_length": reads.max_length,
            "padding": padding_of(recipe),
            "text_pair_column": pair,
        }  # checkpoints
        if output is not None:
            trainer.add_callback(RoomForArtifact(trainer, output))
        began = time.perf_counter()
        with interrupt.listening(), bar_of(trainer, recipe):
            trainer.train(resume_from_checkpoint=str(checkpoints) if resume else start_from and str(start_from))
    seconds = time.perf_counter() - began
    last = manifest.newest(checkpoints)
    made = (recipe, labels, trainer, tokenizer, reads.max_length, seconds, interrupt.stopped, last, pair)
    result = GeneratorResult(*made, reads=reads) if task.generates else FineTuneResult(*made)
    result.recipes = recipes
    result.note_diverged(train)
    if len(trainer.failures) == trainer.runs:
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint (--save-steps writes some)"
        raise TrainingDivergedError(f"training stopped: {trainer.failures[-1]}; {kept}")
    if cv is not None and not result.interrupted:
        from deni.cross_validation import cross_validate, fit_added

        cross_validate(result, train, cv, cv_seeds, block, progress, keep_folds)
        fit_added(result, train, progress=progress)
    return result


def check_cross_validation(train: Texts, folds: int, divisions: int, dev: bool, runs: int = 1) -> None:
    """Raise SettingError for a cross-validation that cannot be, before anything is trained.

    Args:
        dev: whether there is a dev split.
        runs: seeds of the model itself.
    """
    from deni.cross_validation.folds import check_folds

    if dev:
        raise SettingError("dev chooses the best epoch of one model, and the models of cv have none: give dev or cv")
    if runs > 1:
        raise SettingError(f"cv estimates the score of one model, not of {runs} seeds: give seeds or cv")
    check_folds(train, folds, divisions)


@contextmanager
def run_folder(checkpoints: str | Path | None) -> Iterator[Path]:
    """Where Trainer writes: the checkpoint folder, not left behind empty, or a temporary one if there is none."""
    if checkpoints is None:
        with tempfile.TemporaryDirectory(prefix="deni.") as temporary:
            yield Path(temporary)
        return
    try:
        yield Path(checkpoints)
    finally:
        with suppress(OSError):  # not there, or not empty
            Path(checkpoints).rmdir()


def make_origin(
    recipe: Recipe,
    train: Texts,
    dev: Texts | None = None,
    labels: Sequence[str] | None = None,
    initial: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """What a checkpoint must share with the run that goes on from it; the strategy is the trainer's to compare."""
    settings = recipe.settings()
    # The trainer compares strategy and seeds; other engines compute the same.
    for name in ("strategy", "seed", "engine", "members_at_a_time", "eval_batch_size"):
        settings.pop(name)
    tuning = settings.pop("tuning")
    return {
        **settings,
        "tuning": tuning["name"],
        **{f"tuning's {name}": value for name, value in tuning["settings"].items()},
        "training texts": _digest(train, labels),
        "development texts": _digest(dev) if dev is not None else None,
        **({} if initial is None else {"initial values": "of another model"}),
    }


def _digest(texts: Texts, labels: Sequence[str] | None = None) -> str:
    """A short name of these texts and labels in this order, and of what training is to make of them."""
    order = [list(texts.order)] if texts.order else []
    soft = soft_columns(texts, labels or names(texts)) if texts.labels is not None else {}
    content = json.dumps([list(texts.texts), list(texts.labels or ()), *order, *([soft] if soft else [])])
    return f"{len(texts)} with SHA-256 {digest_of_text(content)[:12]}"


def class_weights(train: Texts, labels: Sequence[str]) -> torch.Tensor:
    """A weight for each class, `(C,)`, so that all count alike in the loss."""
    counts = np.bincount(encode(train, labels), minlength=len(labels))
    return torch.tensor(len(train) / (len(labels) * counts), dtype=torch.float32)
