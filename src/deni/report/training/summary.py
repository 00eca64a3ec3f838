"""What is known of a finished training: its curves, its forks, its cost, and how to repeat it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from deni.analysis.beside import Beside, compare_out_of_fold, compare_with_baselines
from deni.analysis.forks import summarize_forks
from deni.analysis.performance import Performance, measure_performance
from deni.artifact.calibration import temperature_of
from deni.auto import as_sentence
from deni.auto.encoders import told
from deni.baselines import Baseline
from deni.commands.train import TrainingRun
from deni.labeling.checking import ListedLabel, by_out_of_fold, listed
from deni.provenance import versions
from deni.randomness import derive
from deni.recipe import Recipe
from deni.report.repeat import install
from deni.report.training.answers import Answers, measure_answers
from deni.study.execution.pack import environment
from deni.tasks import TASKS


@dataclass(frozen=True)
class TrainingSummary:
    """What is known of a finished training, as its report takes it.

    Args:
        data: what it was trained on, as it was named.
        train_texts: how many texts were trained on.
        metrics: of the test split, and how many texts there were.
        on_test: measures of the test split; None without one.
        missing: part of the report -> the sentence that says why it is not there.
        losses: `step`, `loss` and `of` (training texts, dev texts).
        scores: `step` and `score` on the dev texts, in points where that is a share.
        phases: `start`, `stop`, `members` (of all runs).
        forks: rows as `deni.analysis.forks.summarize_forks` gives them.
        excess: `step`, `excess` of each step with copies, and `fork`, which it belongs to.
        failures: members that failed.
        failed_forks: forks that had no effect, in a sentence each.
        schedule: its phases, as text.
        member_steps, plain_steps: what it cost without a teacher, and what the same number of steps of one model would
            have cost.
        voters: how many members predict.
        seconds: of the training.
        resumed: whether it was a part of the training alone.
        settings: as in `deni.json`.
        environment: versions, device, threads.
        commands: how to repeat it; empty where it was not begun on the command line.
        model: the artifact's folder, as commands name it.
        beside: the model beside the baselines; None where they were left out.
        cross_validation: the estimate from folds, see `deni.cross_validation.estimate`; None without.
        wrong_labels: of the training texts, the likeliest first; None without out-of-fold predictions.
        auto: what the strategy `auto` became, and which encoder was the best, a sentence each with the reason.
        calibration, abstention: as in `deni.json`; empty where there was nothing to fit them on.
        distillation: as in `deni.json`; None for a model that learned from labels alone.
        answers: of the test split, of a model that generates; None without.
    """

    data: str
    train_texts: int
    metrics: Mapping[str, Any]
    on_test: Performance | None
    missing: Mapping[str, str]
    losses: pd.DataFrame
    scores: pd.DataFrame
    phases: Sequence[Mapping[str, int]]
    forks: pd.DataFrame
    excess: pd.DataFrame
    failures: Sequence[str]
    failed_forks: Sequence[str]
    schedule: str
    member_steps: int
    plain_steps: int
    voters: int
    seconds: float
    resumed: bool
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    commands: Sequence[str]
    model: str = "MODEL"
    beside: Beside | None = None
    auto: Sequence[str] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    abstention: Mapping[str, Any] = field(default_factory=dict)
    cross_validation: Mapping[str, Any] | None = None
    wrong_labels: Sequence[ListedLabel] | None = None
    distillation: Mapping[str, Any] | None = None
    answers: Answers | None = None

    @property
    def teacher_steps(self) -> int:
        """Member-steps of the teacher and its folds, as far as they are known; 0 for a model without a teacher."""
        return int(self._of_teacher("member_steps"))

    @property
    def all_steps(self) -> int:
        """Member-steps of this training, and of its teacher and folds."""
        return self.member_steps + self.teacher_steps

    @property
    def all_seconds(self) -> float:
        """Seconds of this training, and of its teacher and folds."""
        return self.seconds + self._of_teacher("seconds")

    @property
    def cost(self) -> float:
        """How many times the member-steps of plain training it cost, with a teacher; 0 where nothing was trained."""
        return self.all_steps / max(self.plain_steps, 1)

    def _of_teacher(self, key: str) -> float:
        teacher = (self.distillation or {}).get("teacher", {})
        return teacher.get(key, 0) + teacher.get("folds", {}).get(key, 0)


def summarize_training(
    done: TrainingRun,
    generator: np.random.Generator,
    command: str | None = None,
    model: str = "MODEL",
    baselines: Sequence[Baseline] | None = (),
) -> TrainingSummary:
    """Collect what is known of a training.

    Args:
        generator: draws the test texts again, for the interval.
        command: what was typed.
        model: the artifact's folder, as commands name it.
        baselines: to fit on the same texts; None for those that run without being named.
    """
    result, missing = done.result, {}
    trainer, schedule = result.trainer, result.schedule
    history = trainer.state.log_history
    dev = trainer.eval_dataset is not None
    on_test = answers = None
    task = TASKS[result.recipe.task]
    crossed = result.added.get("cross_validation")
    if done.evaluation is None and crossed is not None:
        missing["test"] = "There was no test split: all texts were trained on, and each was left out in one fold."
    elif done.evaluation is None:
        missing["test"] = "There was no test split (--test 0), so nothing is known about how good the model is."
    elif task.generates:
        given: Any = done.evaluation
        answers = measure_answers(given, len(result.voters or range(trainer.population.size)))
    else:
        parent = trainer.population.members > 1 and trainer.runs == 1
        on_test, why = measure_performance(result.recipe.task, result.labels, done.evaluation, parent, generator)
        missing |= why
    forks = [record.summary() for record in trainer.diagnostics.records]
    if not forks:
        missing["forks"] = "One model was trained from beginning to end, so there are no members to compare."
    info = result.info(done.metrics)
    of = {"loss": "training texts", "eval_loss": "dev texts"}
    losses = [(each["step"], each[name], kind) for each in history for name, kind in of.items() if name in each]
    best = f"eval_{trainer.args.metric_for_best_model}"
    points = 100 if task.best_is_highest else 1  # a share, or an error
    scores = [(each["step"], points * each[best]) for each in history if dev and best in each]
    excess = [
        (record.step + at, value, number)
        for number, record in enumerate(trainer.diagnostics.records, 1)
        for at, value in enumerate(record.excess, 1)
    ]
    return TrainingSummary(
        data=str(result.data.get("data", "")),
        train_texts=done.metrics["train_texts"],
        metrics=done.metrics,
        on_test=on_test,
        missing=missing,
        losses=pd.DataFrame(losses, columns=["step", "loss", "of"]),
        scores=pd.DataFrame(scores, columns=["step", "score"]),
        phases=[{"start": each.start, "stop": each.stop, "members": each.members * schedule.runs} for each in schedule],
        forks=pd.DataFrame(summarize_forks([forks])),
        excess=pd.DataFrame(excess, columns=["step", "excess", "fork"]),
        failures=[str(each) for each in trainer.failures],
        failed_forks=trainer.diagnostics.failures,
        schedule=str(schedule),
        member_steps=result.member_steps,
        plain_steps=trainer.state.global_step,  # fewer than planned where it stopped early
        voters=trainer.population.size if done.result.voters is None else len(done.result.voters),
        seconds=result.seconds,
        resumed=done.resumed,
        settings={name: info[name] for name in ("strategy", "tuning", "recipe", "data", "max_length", "seeds")},
        environment=environment(trainer.args.device),
        commands=[install([versions()]), command] if command else [],
        model=model,
        beside=_beside(done, baselines) if not task.generates and (baselines is None or baselines) else None,
        auto=_chosen(result.recipe),
        calibration=result.added.get("calibration", {}),
        abstention=result.added.get("abstention", {}),
        cross_validation=crossed,
        wrong_labels=list_wrong_labels(done),
        distillation=result.added.get("distillation"),
        answers=answers,
    )


def list_wrong_labels(done: TrainingRun) -> list[ListedLabel] | None:
    """Training labels that are likely wrong by out-of-fold predictions; None without these."""
    kept = done.result.out_of_fold
    if kept is None or done.train is None:
        return None
    return listed(done.train, by_out_of_fold(kept, done.train, temperature=temperature_of(done.result.added)))


def _chosen(recipe: Recipe) -> list[str]:
    encoder = [] if recipe.encoders is None else [told(recipe.encoders)]
    return encoder + ([] if recipe.chosen is None else [as_sentence(recipe.chosen)])


def _beside(done: TrainingRun, baselines: Sequence[Baseline] | None) -> Beside | None:
    """The baselines on the test texts; without these on the texts that folds leave out; None without both."""
    result = done.result
    recipe = dataclasses.replace(result.recipe, max_length=result.max_length)
    generator = np.random.default_rng(derive(recipe.seed, "report", "baselines"))
    device = result.trainer.args.device
    assert done.train is not None
    if done.evaluation is None:
        found = result.out_of_fold
        if found is None:
            return None
        return compare_out_of_fold(done.train, found, recipe, device, done.progress, baselines)
    return compare_with_baselines(
        done.train, done.evaluation, recipe, result.labels, generator, device, done.progress, baselines
    )
