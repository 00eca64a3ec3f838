"""What `deni diagnose` does: plan the runs that a diagnosis needs, train those that are missing, and find."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deni.cross_validation.folds import check_folds
from deni.diagnose.findings import Findings, findings
from deni.diagnose.plan import Diagnosis, ask, default_store, plan_diagnosis
from deni.outputs import check_store
from deni.study.cell import NamedSettings
from deni.study.execution.run import Run
from deni.study.store.database import Store


@dataclass(frozen=True)
class PlannedDiagnosis:
    """A diagnosis that is planned and checked; nothing of it is trained yet.

    Args:
        diagnosis: its cells.
        store: the file of their results.
        left: keys of the cells that the store has not.
        run: trains these.
        cv: how many folds estimate the score; None for no cross-validation.
    """

    diagnosis: Diagnosis
    store: Path
    left: set[str]
    run: Run
    cv: int | None = None

    def findings(self) -> Findings:
        """Train what is left, and say what all runs show."""
        with Store(self.store, create=True) as opened:
            self.run.into(opened)
            found = findings(self.diagnosis, opened)
        if self.cv is None:
            return found
        from deni.finetune import fine_tune

        one = fine_tune(
            self.diagnosis.train,
            self.diagnosis.seeds[0].recipe,
            cv=self.cv,
            block=self.diagnosis.question.cell.block,
            progress=self.run.progress,
            device=self.run.device,
        )
        return dataclasses.replace(found, cross_validation=one.added["cross_validation"])


def diagnose_file(
    file: str,
    *,
    model: str = "minilm",
    tuning: str = "full",
    tuning_settings: Mapping[str, Any] | None = None,
    strategy: str = "default",
    preset: str | None = None,
    protocol: str | None = None,
    labelled: int | None = None,
    test_size: int | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    split: str | None = None,
    config_name: str | None = None,
    augmented: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    dropout: float | None = None,
    pooling: str | None = None,
    normalize_features: bool | None = None,
    pairs: str | None = None,
    bf16: bool | None = None,
    block: int = 0,
    seeds: int = 10,
    budget: str = "small",
    configurations: int | None = None,
    values: int | None = None,
    sources: Sequence[str] = (),
    investigate: bool = True,
    candidates: Sequence[str] = (),
    trial: bool = True,
    trial_seeds: int = 5,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    cv: int | None = None,
    store: str | Path | None = None,
    runner: str = "serial",
    workers: int | None = None,
    pack: int | str = "auto",
    threads: int | None = None,
    address: str | None = None,
    gpus_per_worker: float | None = None,
    device: str | None = None,
    progress: bool = True,
) -> PlannedDiagnosis:
    """Plan a diagnosis, and check texts, model and settings.

    Args:
        file: as in `deni.commands.train.train_file`, but not standard input; and so are the columns.
        tuning_settings: of the tuning.
        epochs, learning_rate, batch_size, max_length, dropout, pooling, normalize_features, pairs, bf16: see
            `deni.recipe.Recipe`; None for its default.
        seeds, trial_seeds: see `deni.diagnose.plan.Question`.
        budget: configurations and values that are not given (`deni.diagnose.plan.BUDGETS`).
        sources: to investigate; empty for all that play a part.
        investigate: whether to investigate any.
        candidates: strategies to try; empty for `deni.diagnose.plan.CANDIDATES`.
        trial: whether to try any.
        baselines: name -> settings; None for `deni.diagnose.plan.RIVALS`.
        cv: how many folds of the labeled texts estimate the score of one model, see `deni.finetune.fine_tune`; None
            for no cross-validation. It is trained each time: the store does not keep it.
        store: None for a file next to the texts.
        runner, workers, pack, threads, address, gpus_per_worker, device, progress: see `deni.study.execution.run.Run`.

    Raises:
        InputError: a file, column, text, number or setting that does not fit; before anything is trained.
    """
    question = ask(
        file,
        dataset={
            "text_column": text_column,
            "text_pair_column": text_pair_column,
            "split": split,
            "config_name": config_name,
            "label_column": label_column,
            "augmented": augmented,
        },
        recipe={
            "epochs": epochs,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "max_length": max_length,
            "dropout": dropout,
            "pooling": pooling,
            "normalize_features": normalize_features,
            "pairs": pairs,
            "bf16": bf16,
        },
        tuning=NamedSettings(tuning, dict(tuning_settings or {})),
        strategy=strategy,
        model=model,
        labelled=labelled,
        test_size=test_size,
        block=block,
        preset=preset,
        protocol=protocol,
        budget=budget,
        configurations=configurations,
        values=values,
        sources=(sources or None) if investigate else (),
        candidates=(candidates or None) if trial else (),
        seeds=seeds,
        trial_seeds=trial_seeds,
        baselines=baselines,
    )
    place = check_store(store or default_store(file), [file, augmented])
    diagnosis = plan_diagnosis(question)
    if cv is not None:
        check_folds(diagnosis.train, cv)
    left = diagnosis.left(place)
    run = Run(
        diagnosis.study,
        left,
        runner=runner,
        workers=workers,
        pack=pack,
        threads=threads,
        address=address,
        gpus_per_worker=gpus_per_worker,
        device=device,
        progress=progress,
    )
    return PlannedDiagnosis(diagnosis, place, {each.key for each in left}, run, cv)
