"""What of a population is written and read: `transformers.Trainer` whose checkpoints and models are populations."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

from torch import nn

from deni.engine.optimizer import MemberOptimizer
from deni.errors import ArtifactError
from deni.training import checkpoint
from deni.training.dataloading import PackedTrainer
from deni.training.failures import Failures
from deni.training.fork_monitor import Comparison
from deni.training.fork_records import Diagnostics
from deni.tuning import tuning_of

logger = logging.getLogger(__name__)


class SavingTrainer(PackedTrainer):
    """Writes checkpoints and artifacts of a population, and resumes: what `PopulationTrainer` is on disk.

    Attributes:
        origin: JSON values that say what the run is made from; a checkpoint with others is not resumed.
        source_seeds: seeds of single sources of randomness.
        member_steps: optimiser steps of all members so far.
    """

    origin: dict[str, Any]
    source_seeds: dict[str, int]
    member_steps: int
    _comparison: Comparison
    _optimizer_of_members: MemberOptimizer | None = None
    _best_is_loaded = False

    @property
    def diagnostics(self) -> Diagnostics:
        """What the forks of the last training did."""
        return self._comparison.diagnostics

    def _told(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The strategy with these settings, for the origin."""
        return {"strategy": self.strategy.name, **{f"strategy's {name}": value for name, value in settings.items()}}

    def _before_fork(self, step: int) -> dict[str, Any] | None:
        """The origin of all runs that are like this one when `step` steps are done; None where it has forked by then.

        These may differ in how they will fork.
        """
        if self._schedule().forked_before(step):
            return None
        rest = {name: value for name, value in self.origin.items() if not name.startswith("strategy's ")}
        return {**rest, **self._told(self.strategy.before_fork())}

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the population as an artifact that `deni.load` reads.

        Args:
            output_dir: default: the folder `model` in `args.output_dir`. An artifact that is there is replaced.
        """
        if _internal_call:  # a checkpoint
            super().save_model(output_dir, _internal_call=True)
            return
        if not self.args.should_save:
            return
        from deni import artifact

        if self.processing_class is None:
            raise ValueError("an artifact needs a tokenizer: give the trainer `processing_class`")
        folder = output_dir or os.path.join(self.args.output_dir, "model")
        ours = os.path.isfile(os.path.join(folder, artifact.INFO)) or (os.path.isdir(folder) and not os.listdir(folder))
        config = self.population.config
        info = artifact.describe(
            self,
            tuning={"name": tuning_of(self.population.model), "settings": {}},
            recipe={"model": config._name_or_path} if config._name_or_path else {},
            task=self._problem(None),
        )
        labels = [str(config.id2label[at]) for at in range(config.num_labels)]
        with self.strategy.predicting(self.population):
            artifact.save(
                folder,
                population=self.population,
                tokenizer=self.processing_class,
                labels=labels,
                info=info,
                overwrite=ours,
            )

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        os.makedirs(folder, exist_ok=True)
        extra = {
            "origin": self.origin,
            "before_fork": self._before_fork(self.state.global_step),
            "step": self.state.global_step,
            "member_steps": self.member_steps,
            "diagnostics": self.diagnostics.state(),
            "failures": self.failures.state(),
        }
        checkpoint.save(self.population, folder, extra)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        checkpoint.save_randomness(self.population, output_dir, self.args.process_index)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        checkpoint.check(resume_from_checkpoint, self.origin, self._before_fork)
        state = checkpoint.load(self.population, resume_from_checkpoint, self.args.process_index)
        self.member_steps = state["member_steps"]
        self._comparison.diagnostics = Diagnostics.of(state.get("diagnostics", []))
        self.failures = Failures.of(state["failures"])

    def _load_best_model(self) -> None:
        logger.info(f"Loading the population of {self.state.best_model_checkpoint} ({self.state.best_metric}).")
        checkpoint.load(self.population, str(self.state.best_model_checkpoint), self.args.process_index)
        self._best_is_loaded = True
        self._optimizer_of_members = None  # its states belong to the members that were replaced

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except (RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
            if checkpoint is None:
                raise
            reason = str(error).partition("\n")[0]
            raise ArtifactError(
                f"{checkpoint} has no readable optimiser state ({reason}): resume from an earlier one"
            ) from error
        if self._optimizer_of_members is not None:
            self._optimizer_of_members.check()
