"""Train a model for each fold, side by side, and have it predict the texts that it has not seen."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deni.artifact import Classifier, OutOfFold, digests_of
from deni.artifact.out_of_fold import MEMBER, MERGED, VOTE
from deni.cross_validation.estimating import estimate
from deni.cross_validation.folds import divide, training_rows
from deni.data import Text, Texts
from deni.errors import InputWarning, SettingError, TrainingDivergedError
from deni.finetune import FineTuneResult
from deni.finetune.making import Reads, bar_of, make_arguments, make_trainer
from deni.finetune.running import make_origin, run_folder
from deni.finetune.stopping import StopOnInterrupt
from deni.models.tokenizing import encode
from deni.population import Population, mean_of_members
from deni.randomness import derive
from deni.recipe import Recipe
from deni.tasks import TASKS
from deni.training import manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """One model of a cross-validation.

    Args:
        division: which of the divisions, counted from 0.
        fold: which of its folds.
        seed: of the run.
        rows: of the texts that it is trained on.
        left_out: the rows that it predicts.
    """

    division: int
    fold: int
    seed: int
    rows: np.ndarray
    left_out: np.ndarray


@dataclass(frozen=True)
class TrainedFolds:
    """What came of training folds.

    Args:
        out_of_fold: predictions for all texts; None where the training was interrupted.
        member_steps: of all folds.
        members: the models, run by run, where they are kept.
        interrupted: of the folds that Ctrl-C has stopped, with their checkpoint.
    """

    out_of_fold: OutOfFold | None
    member_steps: int
    members: Population | None = None
    interrupted: FineTuneResult | None = None


def plan_folds(texts: Texts, folds: int, divisions: int, seed: int, block: int = 0) -> list[Fold]:
    """All folds of all divisions, each with its own seed: `seed` and the numbers after it.

    Args:
        seed: of the recipe.
        block: decides how the texts are divided.
    """
    found: list[Fold] = []
    for division in range(divisions):
        of_division = derive(block, "cv", division)
        fold_of = divide(texts, folds, of_division)
        for fold, rows in enumerate(training_rows(fold_of, of_division)):
            found.append(Fold(division, fold, seed + len(found), rows, np.flatnonzero(fold_of == fold)))
    return found


def cross_validate(
    result: FineTuneResult,
    texts: Texts,
    folds: int = 5,
    divisions: int = 1,
    block: int = 0,
    progress: bool = False,
    keep: bool = False,
) -> int:
    """Give a trained model its out-of-fold predictions, and an estimate of its score from them.

    Each fold trains the whole strategy on the texts that it does not leave out, with what follows from the texts but
    not from their labels (the tokens after which a text is cut) as for the model itself.

    Args:
        result: of the training on all texts; `out_of_fold` and `added` are filled in.
        texts: that it was trained on.
        folds: into how many parts the texts are divided; each is left out once.
        divisions: how many times they are divided, each time with other seeds.
        block: decides how the texts are divided, where the recipe has no seed of data_split.
        keep: whether the models of the folds are kept, as `result.folds`.

    Returns:
        the member-steps of all folds.

    Raises:
        TrainingDivergedError: a fold without a run that has a finite loss.
    """
    reads = Reads(result.tokenizer, result.labels, result.max_length, result.trainer.class_weights)
    shared: dict[str, Any] = {"text_pair_column": result.text_pair_column, "progress": progress, "keep": keep}
    device = result.trainer.args.device
    found = train_folds(result.recipe, reads, texts, folds, divisions, block, device=device, **shared)
    assert found.out_of_fold is not None  # nothing stops them but an error
    result.out_of_fold, result.folds = found.out_of_fold, found.members
    result.added["cross_validation"] = estimate(found.out_of_fold, TASKS[result.recipe.task])
    return found.member_steps


def train_folds(
    recipe: Recipe,
    reads: Reads,
    texts: Texts,
    folds: int = 5,
    divisions: int = 1,
    block: int = 0,
    *,
    device: torch.device,
    text_pair_column: str | None = None,
    progress: bool = False,
    keep: bool = False,
    checkpoints: Path | None = None,
    save_steps: int | None = None,
    resume: bool = False,
) -> TrainedFolds:
    """Train a model for each fold, which predicts the texts that it leaves out.

    Args:
        recipe: of each, with nothing open.
        reads: tokenizer, labels, length and class weights that all of them share.
        texts, folds, divisions, block, keep: as in `cross_validate`.
        device, text_pair_column, progress, checkpoints, save_steps: as in `deni.finetune.fine_tune`.
        resume: continue from the checkpoints that are there; what has none begins anew.

    Raises:
        TrainingDivergedError: a fold without a run that has a finite loss.
    """
    block = recipe.source_seeds.get("data_split", block)
    planned = plan_folds(texts, folds, divisions, recipe.seed, block)
    origin = {**make_origin(recipe, texts, labels=reads.labels), "folds": [folds, divisions, block]}
    sharing = Packs(recipe, reads, texts, device, text_pair_column, progress, origin, save_steps, resume)
    try:
        packs = [sharing.train(planned, checkpoints, keep)]
    except SettingError as error:  # such as a model that runs cannot share a batch of, or too little memory
        logger.warning("folds are trained one after another: %s", error)
        packs = []
        for number, fold in enumerate(planned, 1):
            packs.append(sharing.train([fold], checkpoints and checkpoints / str(number)))
            if packs[-1].interrupted:
                break
        if keep:
            warnings.warn(f"the models of the folds are not kept: {error}", InputWarning, stacklevel=2)
    steps = sum(each.result.member_steps for each in packs)
    if packs[-1].interrupted:
        return TrainedFolds(None, steps, interrupted=packs[-1].result)
    predicted = [each for pack in packs for each in pack.predicted]
    return TrainedFolds(_collect(texts, planned, predicted, reads.labels), steps, packs[0].kept)


@dataclass(frozen=True)
class Pack:
    """Folds that were trained side by side.

    Args:
        result: of their training.
        predicted: what each predicts for the texts that it left out, by predictor: `(n, C)`.
        kept: their members, where they are kept and none has failed.
    """

    result: FineTuneResult
    predicted: list[dict[str, np.ndarray]] = field(default_factory=list)
    kept: Population | None = None

    @property
    def interrupted(self) -> bool:
        return self.result.interrupted


@dataclass(frozen=True)
class Packs:
    """What all packs of a cross-validation share, see `train_folds`."""

    recipe: Recipe
    reads: Reads
    texts: Texts
    device: torch.device
    text_pair_column: str | None
    progress: bool
    origin: Mapping[str, Any]
    save_steps: int | None
    resume: bool

    def train(self, planned: Sequence[Fold], checkpoints: Path | None, keep: bool = False) -> Pack:
        """Train folds as the runs of one pack."""
        recipe, texts, reads = self.recipe, self.texts, self.reads
        if checkpoints is not None:
            manifest.settle(checkpoints)
        goes_on = self.resume and bool(manifest.checkpoints(checkpoints or ""))
        with run_folder(checkpoints) as folder:
            args = make_arguments(recipe, folder, self.save_steps, False, self.progress, self.device)
            interrupt = StopOnInterrupt(saves=checkpoints is not None)
            trainer = make_trainer(
                [recipe],
                [texts.select(fold.rows) for fold in planned],
                reads,
                args,
                [interrupt],
                seeds=[fold.seed for fold in planned],
                origin=self.origin,
            )
            named = f"{len(planned)} folds" if len(planned) > 1 else f"fold {planned[0].fold + 1}"
            began = time.perf_counter()
            with interrupt.listening(), bar_of(trainer, recipe, named):
                trainer.train(resume_from_checkpoint=str(checkpoints) if goes_on else None)
        made = (recipe, reads.labels, trainer, reads.tokenizer, reads.max_length, time.perf_counter() - began)
        result = FineTuneResult(*made, interrupt.stopped, manifest.newest(checkpoints), self.text_pair_column)
        if result.interrupted:
            return Pack(result)
        predicted = [_left_out(result, at, fold, texts) for at, fold in enumerate(planned)]
        if keep and trainer.failures:
            message = f"the models of the folds are not kept, for one of them failed: {trainer.failures[-1]}"
            warnings.warn(message, InputWarning, stacklevel=2)
        return Pack(result, predicted, trainer.population if keep and not trainer.failures else None)


def _left_out(result: FineTuneResult, at: int, fold: Fold, texts: Texts) -> dict[str, np.ndarray]:
    """What a fold's vote, its merged model and its first member predict for the texts that it left out, `(n, C)`.

    Args:
        result: of all folds of the pack.
        at: which of them.
    """
    trainer, population = result.trainer, result.trainer.population
    each = population.size // len(trainer.seeds)
    frozen = {run for run in trainer.failures.runs if run // trainer.strategy.runs == at}
    if len(frozen) == trainer.strategy.runs:
        raise TrainingDivergedError(f"fold {fold.fold + 1} of the cross-validation stopped: {trainer.failures[-1]}")
    voters = [at * each + member for member in trainer.voters(at)]
    given = [texts.texts[row] for row in fold.left_out]
    vote = _predictions(result, voters, each, given)
    found = {VOTE: result.classifier().combined(vote, calibrated=False)}
    if each > 1:
        # What `deni export --as single` writes: the mean of the members that predict.
        values = {name: value.detach().clone() for name, value in population.values.items()}
        for name, mean in mean_of_members({name: value[voters] for name, value in values.items()}).items():
            values[name][voters[0]] = mean
        with population.holding(values):
            found[MERGED] = _predictions(result, voters[:1], 1, given)[:, 0]
        found[MEMBER] = vote[:, 0]
    for outputs in found.values():
        if np.isnan(outputs).any():
            raise TrainingDivergedError(f"fold {fold.fold + 1} of the cross-validation predicts NaN: its loss diverged")
    return found


def _predictions(
    result: FineTuneResult, members: Sequence[int], side_by_side: int, texts: Sequence[Text]
) -> np.ndarray:
    """What some members predict, `(n, members, C)`; they are among `side_by_side` ones, which are computed together."""
    population = result.trainer.population
    if population.size > 1 and population.module.at_a_time != side_by_side:
        population.module.choose(population.engine_name, side_by_side)
    classifier = Classifier(population, result.tokenizer, result.labels, result.info(), voters=members)
    return classifier.outputs(texts)


def _collect(
    texts: Texts, planned: Sequence[Fold], found: Sequence[dict[str, np.ndarray]], labels: list[str]
) -> OutOfFold:
    """Predictions of all folds in the order of the texts, or of their words."""
    task, gold = TASKS[texts.task], encode(texts, labels)
    counts = np.array([len(words) for words in texts.texts]) if task.of_words else np.ones(len(texts), dtype=int)
    whose = np.repeat(np.arange(len(texts)), counts)
    divisions = 1 + max(fold.division for fold in planned)
    shape = (divisions, len(whose), len(labels))
    outputs = {name: np.zeros(shape, dtype=values.dtype) for name, values in found[0].items()}
    folds = np.zeros(shape[:2], dtype=int)
    for fold, predicted in zip(planned, found, strict=True):
        rows = np.flatnonzero(np.isin(whose, fold.left_out))
        folds[fold.division, rows] = fold.fold
        for name, values in predicted.items():
            outputs[name][fold.division, rows] = values
    if task.of_words:
        gold = [tag for tags in gold for tag in tags]
    return OutOfFold(outputs, folds, gold, digests_of(texts.texts), labels, whose if task.of_words else None)
