"""What a strategy is: a frozen dataclass over four hooks, each with a neutral default."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deni.schedule import Phase, Schedule

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import TrainingArguments

    from deni.population import Population


@dataclass(frozen=True)
class Setup:
    """What a strategy may change before training.

    Args:
        args: the training arguments, a copy of the user's.
        tuning: the name of the tuning: `full`, `lora`, ...
    """

    args: TrainingArguments
    tuning: str = "full"


@dataclass(frozen=True)
class Strategy:
    """A mitigation: what is prepared, who trains when, what happens after a step, how members vote.

    The fields of a subclass are its settings, its command-line flags and its columns in tables.
    """

    name: ClassVar[str]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # preset -> the settings that differ from the defaults

    def prepare(self, setup: Setup) -> Setup:
        """Change what is trained before training begins."""
        return setup

    def phases(self, steps: int) -> list[Phase]:
        """The phases with more than one member, for a run of `steps` optimiser steps."""
        return []

    def after_step(self, population: Population, step: int) -> None:
        """Perturb or average after optimiser step `step`, counted from 1."""

    def finish(self, population: Population) -> None:
        """Decide what is kept when training has ended."""

    def combine_members(self, log_probabilities: Tensor) -> Tensor:
        """Let the members of one model vote: `(B, M, C)` log probabilities become `(B, C)`."""
        from deni.strategies.vote import vote

        return vote(log_probabilities, "soft")

    def schedule(self, steps: int) -> Schedule:
        """All phases of a run; raises ValueError where they do not fit into `steps`."""
        return Schedule.of(self.phases(steps), steps, self.runs)

    @property
    def runs(self) -> int:
        """How many independent runs make one model."""
        return 1

    @property
    def noise_scope(self) -> str:
        """Which tensors its noise reaches, for those who leave out tensors that nothing moves."""
        return "head"

    def settings(self) -> dict[str, Any]:
        """The settings as JSON values.

        >>> from deni.strategies import DelayedEnsemble
        >>> DelayedEnsemble(members=3).settings()["members"]
        3
        """
        return dataclasses.asdict(self)
