"""What a strategy is: a frozen dataclass over a few hooks, each with a neutral default.

When a hook is called, `<-` in training as pseudocode; what is in brackets is not the strategy's:

    [read texts]                              <- most_texts, in place of the number of labeled texts that is asked for
    [know the tuning]                         <- for_tuning(adapter)
    for each run:
        [tokenize the training set]           <- prepare(setup)
        [load or initialize a model]          <- prepare_model(model)
    [fill the steps]                          <- phases(steps)
    [make the optimizer]                      <- rate_of(name, names), for each parameter
    [begin, unless the run is resumed]        <- start(population, outputs)
    for step in range(steps):
        [merge, or fork, where a phase ends or begins]
        with                                  <- training(population, step, steps)
            [forward]                         <- losses(population, passes)
            [backward]
        [clip the gradients, set the rates]   <- rate_at(step, steps)
        [update]
                                              <- after_step(population, step + 1, steps)
        with                                  <- predicting(population), where an evaluation or a checkpoint is due
            [predict or save]
                                              <- finish(population, score, outputs)
    [let the members vote, or the runs]       <- combine, runs

What a strategy keeps between hooks (a mean, the values at the start) is in `population.kept` under its name, and so in
checkpoints. Strategies that are combined are asked `conflicts_with(other)` once, when they are put together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from deni.deprecation import Renamed
from deni.errors import SettingError
from deni.registry import Registry
from deni.schedule import Phase, Schedule
from deni.tasks.voting import Combine

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import TrainingArguments

    from deni.population import Population
    from deni.randomness import Sources

STRATEGIES: Registry[Strategy] = Registry("strategy", "deni.strategies")


class Outputs(Protocol):
    """What a member predicts for the labeled texts of its run: batches of outputs, `(B, C)` or `(B, T, C)`, and labels.

    Called with the number of the run, and that of its member.
    """

    @property
    def class_weights(self) -> Tensor | None:
        """Of the loss, `(C,)`; None where all classes count alike."""

    def __call__(self, run: int, member: int = 0) -> Iterable[tuple[Tensor, Tensor]]: ...

    def labels(self, run: int) -> Iterable[Tensor]:
        """The labels alone, batch by batch."""

    def weights(self, run: int) -> Sequence[Tensor] | None:
        """How much each row counts in the loss, `(B,)`, batch by batch; None where all count alike."""


class Passes(Protocol):
    """Forward passes of the members that are computed together, on their rows of a step; each with new dropout masks.

    Called for what the model returns, folded.
    """

    def __call__(self) -> Any: ...

    def loss(self, outputs: Any) -> Tensor:
        """The mean loss of each member `(M,)`, of what a pass returned."""

    def difference(self, first: Any, other: Any) -> Tensor:
        """How far apart what two passes returned is, the mean of each member `(M,)`; see `Task.difference`."""

    def logits(self, outputs: Any) -> Tensor:
        """The logits in what a pass returned, folded `(M*B, ...)`."""

    def contrast(self, features: Tensor, temperature: float) -> Tensor:
        """How far apart the features of texts of one class are, the mean of each member `(M,)`; see `Task.contrast`."""


Score = Callable[[Mapping[str, "Tensor"]], float]

# Settings of a strategy that are settings of the training, too, under these names: the strategy's win.
ARGUMENTS = ("epochs", "weight_decay", "warmup_ratio")

LONG = 10_000  # steps in which the phases of any strategy fit; whether two overlap, or vote, does not depend on it


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

    The fields of a subclass are its settings, its command-line flags and its columns in tables. A name registers it:
    `class DENI(DelayedEnsemble, NoisyInterpolation, name="deni")`. Strategies compose:
    `Augmentation(1, "texts.csv") + DENI()`.
    """

    name: ClassVar[str]
    when: ClassVar[str] = ""  # when to take it, in a sentence, for `deni strategies`
    renamed: ClassVar[Mapping[str, Renamed]] = {}  # old names of settings, see `deni.deprecation`
    presets: ClassVar[dict[str, dict[str, Any]]] = {}  # preset -> the settings that differ from the defaults
    finishes_last: ClassVar[bool] = False  # whether it needs what those that it is combined with keep
    generates: ClassVar[bool] = True  # whether it makes sense for a language model that generates texts
    of_forks: ClassVar[tuple[str, ...]] = ()  # settings of a class that decide nothing before the first fork
    by_run: ClassVar[tuple[str, ...]] = ()  # settings that each run of a training may have of its own
    by_rank: ClassVar[bool] = True  # whether LoRA of several ranks may train together: nothing is drawn for its factors

    def __init_subclass__(cls, name: str | None = None, paper_row: int | None = None, **options: Any) -> None:
        """Register a class that has a name.

        Args:
            name: what it is called on the command line and in studies; without one it is not registered.
            paper_row: its row in the tables of arXiv 2406.12471, which is its place in listings.

        Raises:
            SettingError: another strategy has the name.
        """
        super().__init_subclass__(**options)
        if name is not None:
            cls.name = name
            STRATEGIES.add(name, cls, paper_row)

    # ---- what it declares, as a property or a field ----------------------------------------------------------------

    @property
    def combine(self) -> Combine:
        """How members, or runs, vote in predictions: a rule of `deni.tasks.voting.vote`."""
        return "soft"

    @property
    def runs(self) -> int:
        """How many independent runs make one model."""
        return 1

    @property
    def run_length(self) -> float:
        """How many optimizer steps a run has, as a fraction of those that the training arguments ask for."""
        return 1.0

    @property
    def passes(self) -> int:
        """How many forward passes of the model, with their backward passes, a member has in an optimizer step."""
        return 1

    @property
    def scope(self) -> str:
        """Which tensors its noise reaches, see `deni.noise.Noise`; what nothing moves may be left out of training."""
        return "head"

    @property
    def most_texts(self) -> int | None:
        """Train on all labeled texts up to this number, whatever is asked for; None: on as many as are asked for."""
        return None

    @property
    def fits(self) -> bool:
        """Whether `start` alone makes a model that predicts, so that a run without a single step makes sense."""
        return False

    @property
    def votes(self) -> bool:
        """Whether several members or runs predict in the end."""
        return self.runs > 1 or any(not phase.merge for phase in self.phases(LONG))

    def conflicts_with(self, other: Strategy) -> str:
        """Why it makes no sense together with another strategy; empty if it does. Either of the two may know."""
        return ""

    # ---- before training -------------------------------------------------------------------------------------------

    def for_tuning(self, adapter: bool) -> Strategy:
        """The strategy with the settings that are still open, as is best for the tuning.

        Args:
            adapter: whether an adapter of PEFT trains, or all of the model.
        """
        return self

    def prepare(self, setup: Setup) -> Setup:
        """Change what is trained on."""
        return setup

    def prepare_model(self, model: nn.Module) -> nn.Module:
        """Change a fresh model; the global generators are those of its initialization. The same layers for each run."""
        return model

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        """Change the members before the first step; not called for a run that is resumed.

        Args:
            outputs: what a run predicts for all its labeled texts, in their order and in evaluation mode, with the
                values that it has now; a forward pass each time. None where nobody knows the texts.
        """

    # ---- training --------------------------------------------------------------------------------------------------

    def phases(self, steps: int) -> list[Phase]:
        """The phases with more than one member, for a run of `steps` optimizer steps."""
        return []

    def rate_of(self, name: str, names: Mapping[str, Any]) -> float:
        """What the learning rate of a parameter is multiplied with; `names` are those of all that train."""
        return 1.0

    def rate_at(self, step: int, steps: int) -> float | None:
        """The learning rate at a step, counted from 0, as a part of the peak; None leaves it to the scheduler."""
        return None

    @contextmanager
    def training(self, population: Population, step: int, steps: int) -> Iterator[None]:
        """Around the forward and backward passes of optimizer step `step`, counted from 0.

        When it is left the gradients are there: not yet clipped, nor summed over processes.
        """
        yield

    def losses(self, population: Population, passes: Passes) -> Tensor:
        """The losses `(M,)` of the members that are computed together, on their rows of a step."""
        return passes.loss(passes())

    def after_step(self, population: Population, step: int, steps: int) -> None:
        """Perturb or average when `step` of `steps` optimizer steps are done."""

    # ---- predicting ------------------------------------------------------------------------------------------------

    @contextmanager
    def predicting(self, population: Population) -> Iterator[None]:
        """Around everything that predicts or saves a model: in it the population is what predicts."""
        yield

    def finish(self, population: Population, score: Score | None = None, outputs: Outputs | None = None) -> None:
        """Decide what is kept when training has ended.

        Args:
            score: how good one member of these values `(*shape)` is on the evaluation set, more is better; None
                without such a set.
            outputs: see `start`.
        """

    # ---- what follows from these ------------------------------------------------------------------------------------

    def schedule(self, steps: int) -> Schedule:
        """All phases of a run whose training arguments ask for `steps` optimizer steps.

        Raises:
            SettingError: phases that do not fit.
        """
        return self.tiled(math.ceil(self.run_length * steps - 1e-9))

    def tiled(self, steps: int) -> Schedule:
        """All phases of a run of exactly so many optimizer steps; raises SettingError where they do not fit."""
        if steps == 0 and self.fits:
            return Schedule((), self.runs)
        return Schedule.of(self.phases(steps), steps, self.runs, self.passes)

    @property
    def changes_loss(self) -> bool:
        """Whether it has another loss than the training."""
        return type(self).losses is not Strategy.losses

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
        late = {name for cls in type(self).__mro__ for name in vars(cls).get("of_forks", ())}
        return {name: value for name, value in self.settings().items() if name not in late}

    def arguments(self) -> dict[str, float]:
        """The training arguments that it decides: its settings of the names in `ARGUMENTS` that are not None."""
        given = {name: getattr(self, name, None) for name in ARGUMENTS}
        return {name: value for name, value in given.items() if value is not None}

    def labelled(self, wanted: int | None, available: int) -> int | None:
        """How many labeled texts to train on, None for all.

        Raises:
            SettingError: fewer are asked for than `most_texts` and the available ones.
        """
        if self.most_texts is None:
            return wanted
        most = min(self.most_texts, available)
        if wanted is not None and wanted < most:
            raise SettingError(
                f"{self.name} trains on all {most} labeled texts, not on {wanted}: omit --labeled or choose another "
                "strategy"
            )
        return most if most < available else None

    def __add__(self, other: Strategy) -> Strategy:
        """Both at once; raises SettingError where that makes no sense."""
        from deni.strategies.composed import Composed

        return Composed((*self.parts, *other.parts))
