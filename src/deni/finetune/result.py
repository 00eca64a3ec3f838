"""What a fine-tuning gives: a trained population with what is needed to use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from deni import artifact
from deni.data import Texts
from deni.errors import SettingError
from deni.finetune.making import padding_of
from deni.models.tokenizing import encode
from deni.recipe import Recipe
from deni.schedule import Schedule
from deni.tasks import TASKS
from deni.training.trainer import PopulationTrainer

if TYPE_CHECKING:
    from deni.artifact import Classifier
    from deni.population import Population


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a trained population for labeled examples, and their metrics.

    Args:
        texts: N of them.
        gold: as `deni.models.tokenizing.encode` gives it.
        members: per-member predictions, `(N, M, C)`; of words `(W, M, C)`, see `deni.artifact.Classifier.members`.
        votes: of the members, `(N, C)` or `(W, C)`.
        metrics: of the votes, see `deni.tasks.Task.scores`.
    """

    texts: Texts
    gold: Sequence[Any]
    members: np.ndarray
    votes: np.ndarray
    metrics: dict[str, float]


@dataclass
class FineTuneResult:
    """A trained population with what is needed to use it.

    Args:
        recipe: how it was trained; with the strategy `auto` what that became.
        labels: class names in the order of the model's outputs.
        trainer: the trainer, with its population.
        tokenizer: of the model.
        max_length: tokens after which a text is cut.
        seconds: wall time of the training.
        interrupted: whether it was stopped by Ctrl-C; then `checkpoint` continues it.
        checkpoint: the last checkpoint, if there is one.
        text_pair_column: where the second texts were, for a model of pairs.
        data: which texts it was trained and measured on, for `deni.json`.
        out_of_fold: predictions for the training texts by models that had not seen them; None without
            cross-validation.
        scope: where the training texts lie as vectors, which tells what is out of scope; None where that is not known.
        folds: the models of a cross-validation, run by run, where they are kept.
        added: further keys of `deni.json`, of what was fitted or measured after the training: `cross_validation`,
            `calibration`, `abstention`, `sets`, `scope`, `distillation`.
        recipes: of each run, where several recipes were trained together; they are not saved as one artifact.
    """

    recipe: Recipe
    labels: list[str]
    trainer: PopulationTrainer
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    seconds: float
    interrupted: bool = False
    checkpoint: Path | None = None
    text_pair_column: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    out_of_fold: artifact.OutOfFold | None = None
    scope: artifact.Scope | None = None
    folds: Population | None = None
    added: dict[str, Any] = field(default_factory=dict)
    recipes: Sequence[Recipe] = ()

    @property
    def schedule(self) -> Schedule:
        """The phases of the run."""
        return self.trainer.phases.planned

    @property
    def member_steps(self) -> int:
        """What the run cost."""
        return self.trainer.member_steps

    def info(self, metrics: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The content of `deni.json`, see `deni.artifact.describe`."""
        settings = self.recipe.settings()
        del settings["strategy"]
        info = artifact.describe(
            self.trainer,
            tuning=settings.pop("tuning"),
            recipe=settings,
            task=self.recipe.task,
            max_length=self.max_length,
            padding=padding_of(self.recipe),
            text_pair_column=self.text_pair_column,
            data=self.data,
            seconds=self.seconds,
            metrics=metrics,
        )
        found = {"auto": self.recipe.chosen, "encoders": self.recipe.encoders}
        return {**info, **{name: dict(each) for name, each in found.items() if each is not None}, **self.added}

    def classifier(self, progress: bool = False) -> Classifier:
        """The population as a function of texts."""
        trained = self.trainer.population, self.tokenizer, self.labels, self.info(), progress
        return artifact.Classifier(*trained, voters=self.voters, out_of_fold=self.out_of_fold, labeled=self.scope)

    @property
    def voters(self) -> Sequence[int] | None:
        """The members whose runs have not failed, which predict and are saved; None for all."""
        trainer = self.trainer
        return trainer.voters(0) if trainer.failures and len(trainer.seeds) == 1 else None

    def note_diverged(self, texts: Texts) -> None:
        """Note runs that predict NaN for the first of these texts: weights may be finite, but too large."""
        classifier = artifact.Classifier(self.trainer.population, self.tokenizer, self.labels, self.info())
        outputs = classifier.outputs(texts.texts[:8])  # (N, M, C)
        finite = ~np.isnan(outputs).any((0, 2))
        self.trainer.failures.note_members(finite.tolist(), self.trainer.runs, self.trainer.state.global_step - 1)

    def test(self, texts: Texts, progress: bool = False) -> Evaluation:
        """Predictions of the members and their vote for labeled examples."""
        assert texts.labels is not None
        gold = encode(texts, self.labels)
        classifier = self.classifier(progress)
        members = classifier.members(texts.texts)
        votes = classifier.combined(members)
        return Evaluation(texts, gold, members, votes, TASKS[self.recipe.task].scores(gold, votes, self.labels))

    def evaluate(self, texts: Texts, progress: bool = False) -> dict[str, float]:
        """Metrics of the vote on labeled examples, see `deni.tasks.Task.scores`."""
        return self.test(texts, progress).metrics

    def save(
        self,
        folder: str | Path,
        metrics: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        extra_files: Mapping[str, bytes] | None = None,
        inputs: Iterable[str | Path | None] = (),
        checked: bool = False,
    ) -> Path:
        """Write the artifact; `extra_files`, `inputs`, `checked`: see `deni.artifact.save`.

        Raises:
            SettingError: several recipes were trained together.
        """
        if len(self.recipes) > 1:
            raise SettingError("models of several recipes are not one artifact: save each of trainer.members")
        if self.out_of_fold is not None:
            extra_files = {**(extra_files or {}), artifact.OUT_OF_FOLD: artifact.as_bytes(self.out_of_fold)}
        if self.folds is not None:
            extra_files = {**(extra_files or {}), artifact.FOLDS: artifact.members_as_bytes(self.folds)}
        if self.scope is not None:
            extra_files = {**(extra_files or {}), artifact.SCOPE: self.scope.as_bytes()}
        return artifact.save(
            folder,
            population=self.trainer.population,
            tokenizer=self.tokenizer,
            labels=self.labels,
            info=self.info(metrics),
            overwrite=overwrite,
            extra_files=extra_files,
            inputs=inputs,
            checked=checked,
            voters=self.voters,
        )
