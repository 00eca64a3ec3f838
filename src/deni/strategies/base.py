"""What a strategy is: a frozen dataclass over a few hooks, each with a neutral default."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deni.deprecation import Renamed
from deni.schedule import Phase, Schedule

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import TrainingArguments

    from deni.population import Population
    from deni.randomness import Sources
    from deni.tasks.voting import Combine

# What the model of a run says about its labelled texts: run -> batches of outputs `(B, C)` or `(B, T, C)`, and labels.
Answers = Callable[[int], "Iterable[tuple[Tensor, Tensor]]"]

# Settings of a strategy that are settings of the training, too, under these names: the strategy's win.
ARGUMENTS = ("epochs", "weight_decay", "warmup_ratio")


@dataclass(frozen=True)
class Setup:
    """What a strategy may look at, and change, before training.

    Args:
        args: the training arguments; not to be changed, see `Strategy.arguments`.
        train: the training set of one run; a strategy that adds texts needs `datasets.Dataset` with the column `text`.
        tokenizer: what made its tokens.
        sources: the randomness of the run.
        evaluates: whether there is an evaluation set.
        runs: how many runs are trained.
    """

    args: TrainingArguments
    train: Any = None
    tokenizer: Any = None
    sources: Sources | None = None
    evaluates: bool = False
    runs: int = 1


@dataclass(frozen=True)
class Strategy:
    """A mitigation: what is prepared, who trains when, what happens in and after a step, what predicts.

    The fields of a subclass are its settings, its command-line flags and its columns in tables. Strategies compose:
    `Augmentation(1, "texts.csv") + DENI()`.
    """

    name: ClassVar[str]
    renamed: ClassVar[Mapping[str, Renamed]] = {}  # old names of settings, see `deni.deprecation`
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # preset -> the settings that differ from the defaults
    votes: ClassVar[bool] = False  # whether several members or runs predict in the end
    averages: ClassVar[bool] = False  # whether a mean over time predicts in the end
    takes_all: ClassVar[bool] = False  # whether it trains on all labelled texts
    pulls: ClassVar[bool] = False  # whether it pulls the parameters back to where they began

    # ---- before training -------------------------------------------------------------------------------------------

    def labelled(self, wanted: int | None, available: int) -> int | None:
        """How many labelled texts to train on; None for all. Raises ValueError for a number that makes no sense."""
        return wanted

    def prepare(self, setup: Setup) -> Setup:
        """Change what is trained on."""
        return setup

    def prepare_model(self, model: nn.Module) -> nn.Module:
        """Change a fresh model; the global generators are those of its initialisation. The same layers for each run."""
        return model

    def start(self, population: Population, answers: Answers | None = None) -> None:
        """Change the members before the first step; not called for a run that is resumed.

        Args:
            answers: asks a run about all its labelled texts, in their order and in evaluation mode, with the values
                that it has now; a forward pass each time. None where nobody knows the texts.
        """

    def arguments(self) -> dict[str, float]:
        """The training arguments that it decides: its settings of the names in `ARGUMENTS` that are not None."""
        given = {name: getattr(self, name, None) for name in ARGUMENTS}
        return {name: value for name, value in given.items() if value is not None}

    # ---- training --------------------------------------------------------------------------------------------------

    def phases(self, steps: int) -> list[Phase]:
        """The phases with more than one member, for a run of `steps` optimiser steps."""
        return []

    def rate_of(self, name: str, names: Mapping[str, Any]) -> float:
        """What the learning rate of a parameter is multiplied with; `names` are those of all that train."""
        return 1.0

    def rate_at(self, step: int, steps: int) -> float | None:
        """The learning rate at a step, counted from 0, as a part of the peak; None leaves it to the scheduler."""
        return None

    @contextmanager
    def training(self, population: Population, step: int, steps: int) -> Iterator[None]:
        """Around the forward and backward passes of optimiser step `step`, counted from 0.

        When it is left the gradients are there: not yet clipped, nor summed over processes.
        """
        yield

    def after_step(self, population: Population, step: int, steps: int) -> None:
        """Perturb or average when `step` of `steps` optimiser steps are done."""

    # ---- predicting ------------------------------------------------------------------------------------------------

    @contextmanager
    def predicting(self, population: Population) -> Iterator[None]:
        """Around everything that predicts or saves a model: in it the population is what predicts."""
        yield

    def finish(self, population: Population, score: Callable[[Mapping[str, Tensor]], float] | None = None) -> None:
        """Decide what is kept when training has ended.

        Args:
            score: how good one member of these values `(*shape)` is on the evaluation set, more is better; None
                without such a set.
        """

    @property
    def combine(self) -> Combine:
        """How members vote, see `deni.tasks.voting.vote`; an artifact holds it and predicts without the strategy."""
        return "soft"

    # ---- what it is ------------------------------------------------------------------------------------------------

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

    @property
    def parts(self) -> tuple[Strategy, ...]:
        """The strategies that it is composed of."""
        return (self,)

    def settings(self) -> dict[str, Any]:
        """The settings as JSON values.

        >>> from deni.strategies import DelayedEnsemble
        >>> DelayedEnsemble(members=3).settings()["members"]
        3
        """
        return dataclasses.asdict(self)

    def before_fork(self) -> dict[str, Any]:
        """Those of `settings` that count before the first fork: runs that share them are the same until then."""
        return self.settings()

    def __add__(self, other: Strategy) -> Strategy:
        """Both at once; raises ValueError where that makes no sense."""
        from deni.strategies.composed import Composed

        return Composed((*self.parts, *other.parts))
