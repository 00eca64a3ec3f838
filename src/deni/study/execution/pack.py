"""Training a pack: cells that share all that one population must share."""

from __future__ import annotations

import dataclasses
import gc
import resource
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deni.baselines import Baseline
from deni.errors import InputWarning, TrainingDivergedError
from deni.finetune import FineTuneResult, fine_tune
from deni.finetune.generating import GeneratorResult
from deni.finetune.together import differ
from deni.models.devices import find_device
from deni.models.tokenizing import encode, tokenize
from deni.provenance import environment
from deni.study.cell import CellResult
from deni.study.distilled import Distilled
from deni.study.execution.answering import PREDICTS_NAN, Answered
from deni.study.execution.baseline import run_baseline
from deni.study.execution.distilled import run_distilled
from deni.study.execution.job import Job
from deni.study.execution.other_votes import other_votes
from deni.study.execution.trunks import KeepTrunk, trunk_of
from deni.study.library import Library
from deni.tasks import TASKS
from deni.tasks.voting import vote

if TYPE_CHECKING:
    from deni.data import Texts

Outcome = CellResult | str  # a result, or the traceback of a failure


def run_pack(
    jobs: Sequence[Job], library: Library, trunks: str | None = None, device: str | None = None
) -> list[Outcome]:
    """Train cells in one population and predict the texts that they are measured on with every member.

    Args:
        jobs: of cells that may train in one population, see `deni.recipe.shared_settings`.
        library: what is read already.
        trunks: a folder for what packs share before their first fork; None trains each from its first step.
        device: where to train, see `deni.models.devices.find_device`.

    Returns:
        For each cell its result, or why its run failed: a non-finite loss fails that cell alone.

    Raises:
        InputError: what fails them all, such as a model that cannot be loaded.
    """
    if isinstance(jobs[0].recipe.strategy, Distilled):
        return [*run_distilled(jobs, library, trunks, device)]
    if isinstance(jobs[0].recipe.strategy, Baseline):
        return [*run_baseline(jobs, library, device)]
    gc.collect()  # a trainer is part of a circle: without this the one before would still take memory
    _forget_peak(find_device(device))
    with warnings.catch_warnings(), library.tokens.used():
        warnings.simplefilter("ignore", InputWarning)  # each was shown when the study was read
        _, measured = jobs[0].texts(library)
        try:
            fitted = fit(jobs, library, trunks, device)
        except TrainingDivergedError as error:
            return [_said(error)] * len(jobs)
    predicted: Labeled | Answered
    with library.tokens.used():
        if isinstance(fitted, GeneratorResult):
            predicted = Answered(fitted, measured, len(jobs))
        else:
            predicted = Labeled(fitted, measured, len(jobs))
    return [_outcome(at, predicted, fitted, measured, library, jobs) for at in range(len(jobs))]


def fit(jobs: Sequence[Job], library: Library, trunks: str | None = None, device: str | None = None) -> FineTuneResult:
    """Train jobs in one population, from where another pack left their trunk, or leaving it there for others."""
    train, _ = jobs[0].texts(library)
    trunk = trunk_of(jobs, trunks) if trunks else None
    start, before = (trunk.there, trunk.seconds) if trunk else (None, 0.0)
    keep = [KeepTrunk(trunk)] if trunk and not start else []
    recipes = [job.recipe for job in jobs]
    options: dict[str, Any] = {"start_from": start, "callbacks": keep, "device": device}
    if differ(recipes):
        fitted = fine_tune(train, recipes, progress=False, **options)
    else:
        seeds = [job.cell.seed for job in jobs]
        fitted = fine_tune(train, recipes[0], seeds=seeds, progress=False, **options)
    return dataclasses.replace(fitted, seconds=fitted.seconds + before)


class Labeled:
    """What a population of classifiers predicts for the texts that cells are measured on.

    Args:
        fitted: the population.
        measured: these texts, N.
        cells: trained in it.
    """

    def __init__(self, fitted: FineTuneResult, measured: Texts, cells: int) -> None:
        bi = fitted.recipe.pairs == "bi"
        tokens = tokenize(measured, fitted.tokenizer, fitted.max_length, fitted.labels, bi)
        order = np.argsort([len(ids) for ids in tokens["input_ids"]], kind="stable")  # sorted by length: little padding
        back, tokens = order.argsort(), tokens.select(order)
        members = fitted.trainer.predict_members(tokens)[back]  # (N, R*K, C)
        self.fitted, self.gold = fitted, encode(measured, fitted.labels)
        self.models = members.reshape(len(members), cells, -1, members.shape[-1])
        self.merged: Sequence[np.ndarray | None] = [None] * cells
        if fitted.recipe.strategy.runs == 1 < fitted.trainer.population.members:
            self.merged = list(fitted.trainer.predict_merged(tokens)[back].swapaxes(0, 1))  # a cell: (N, C)

    def of(self, at: int, voters: Sequence[int]) -> dict[str, Any]:
        """Fields of `CellResult` of one cell; `voters` are counted within it.

        Raises:
            TrainingDivergedError: NaN.
        """
        recipe, members, merged = self.fitted.recipe, self.models[:, at, voters], self.merged[at]
        if np.isnan(members).any():
            raise TrainingDivergedError(PREDICTS_NAN)
        votes = vote(torch.from_numpy(members), recipe.strategy.combine, recipe.task).numpy()
        return {
            "log_probs": members,
            "merged": merged,
            "gold": np.asarray(self.gold),
            "labels": tuple(self.fitted.labels),
            "metrics": {
                **TASKS[recipe.task].scores(self.gold, votes),
                **other_votes(members, merged, np.asarray(self.gold), recipe.task),
            },
        }


def _outcome(
    at: int,
    predicted: Labeled | Answered,
    fitted: FineTuneResult,
    measured: Texts,
    library: Library,
    jobs: Sequence[Job],
) -> Outcome:
    """The result of one cell."""
    trainer, strategy = fitted.trainer, fitted.recipe.strategy
    failures = [each for each in trainer.failures if each.run // strategy.runs == at]
    if len(failures) == strategy.runs:
        return _said(TrainingDivergedError(str(failures[-1])))
    try:
        found = predicted.of(at, trainer.voters(at))
    except TrainingDivergedError as error:
        return _said(error)
    return CellResult(
        **found,
        text_ids=measured.frame.index.to_numpy(),
        fingerprint=library.fingerprint_of_data(jobs[at].cell),
        cost=_cost(fitted, len(jobs)),
        diagnostics={
            "engine": trainer.population.engine_name,
            "schedule": str(fitted.schedule),
            "max_length": fitted.max_length,
            "pack": len(jobs),
            "failed_runs": [str(each) for each in failures],
            "forks": [record.summary() for record in trainer.diagnostics.records],
        },
        environment=environment(trainer.args.device),
    )


def _said(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _forget_peak(device: torch.device) -> None:
    """Measure the peak of memory from here on, where the system can: CUDA and Linux."""
    if device.type == "cuda":
        torch.cuda.init()  # nothing of CUDA may be used yet, and then there is nothing to reset
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cost(fitted: FineTuneResult, cells: int) -> dict[str, float]:
    """The share of one cell; of memory the peak of the process while the pack was trained, measured on its device.

    FLOPs are an estimate: 6 for each weight outside the embeddings and token (2 forward, 4 backward), 4 where most of
    the weights are frozen and get no gradient.
    """
    trainer = fitted.trainer
    data: Any = trainer.train_dataset
    lengths = [np.size(ids) for ids in data["input_ids"]]  # of both texts, where they are encoded separately
    member_steps = fitted.member_steps / cells
    tokens = member_steps * fitted.recipe.batch_size * float(np.mean(lengths))
    with trainer.population.plain() as model:
        weights = {name: p for name, p in model.named_parameters() if "embeddings" not in name}
        total = sum(p.numel() for p in weights.values())
        trained = sum(p.numel() for p in weights.values() if p.requires_grad)
    return {
        "member_steps": member_steps,
        "tokens": round(tokens),
        "flops": round(tokens * total * (6 if trained > total / 2 else 4)),
        "seconds": round(fitted.seconds / cells, 3),
        "peak_bytes": float(_peak(trainer.args.device)),
    }
