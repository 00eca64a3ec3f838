"""Several strategies at once."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deni.errors import SettingError
from deni.schedule import Phase, Schedule
from deni.strategies.base import LONG, Outputs, Passes, Score, Setup, Strategy
from deni.tasks.voting import Combine

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deni.population import Population


@dataclass(frozen=True)
class Composed(Strategy):
    """Strategies that are applied together, in this order; written `a + b`.

    Args:
        of: two or more strategies.

    Raises:
        SettingError: strategies that contradict each other; the message says why.

    >>> from deni.strategies import BestPractices, DENI
    >>> (BestPractices() + DENI()).name
    'best_practices+deni'
    """

    of: tuple[Strategy, ...]

    def __post_init__(self) -> None:
        for one, other in itertools.combinations(self.of, 2):
            if why := _conflict(one, other):
                raise SettingError(f"{one.name} and {other.name} cannot be combined: {why}")
        self.arguments()

    @property
    def name(self) -> str:  # type: ignore[override]
        """The names of the parts, with `+` between them."""
        return "+".join(part.name for part in self.of)

    @property
    def parts(self) -> tuple[Strategy, ...]:
        return self.of

    @property
    def combine(self) -> Combine:
        """That of the part whose members vote in the end; without one, of the first that forks."""
        return min(self.of, key=lambda part: (not part.votes, not part.phases(LONG))).combine

    @property
    def runs(self) -> int:
        return math.prod(part.runs for part in self.of)

    @property
    def run_length(self) -> float:
        return math.prod(part.run_length for part in self.of)

    @property
    def passes(self) -> int:
        return math.prod(part.passes for part in self.of)

    @property
    def changes_loss(self) -> bool:
        return any(part.changes_loss for part in self.of)

    @property
    def scope(self) -> str:
        scopes = [part.scope for part in self.of]
        return next((scope for scope in ("trainable", "auto") if scope in scopes), "head")

    @property
    def most_texts(self) -> int | None:
        return next((part.most_texts for part in self.of if part.most_texts is not None), None)

    @property
    def fits(self) -> bool:
        return any(part.fits for part in self.of)

    @property
    def votes(self) -> bool:
        return any(part.votes for part in self.of)

    def settings(self) -> dict[str, Any]:
        return {part.name: part.settings() for part in self.of}

    def before_fork(self) -> dict[str, Any]:
        return {part.name: part.before_fork() for part in self.of}

    def for_tuning(self, adapter: bool) -> Composed:
        return dataclasses.replace(self, of=tuple(part.for_tuning(adapter) for part in self.of))

    def prepare(self, setup: Setup) -> Setup:
        for part in self.of:
            setup = part.prepare(setup)
        return setup

    def prepare_model(self, model: nn.Module) -> nn.Module:
        for part in self.of:
            model = part.prepare_model(model)
        return model

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        for part in self.of:
            part.start(population, outputs)

    def arguments(self) -> dict[str, float]:
        given: dict[str, float] = {}
        owner: dict[str, str] = {}
        for part in self.of:
            for name, value in part.arguments().items():
                if given.get(name, value) != value:
                    raise SettingError(
                        f"{owner[name]} and {part.name} cannot be combined as they are: {name} is {given[name]:g} in "
                        f"one and {value:g} in the other, give both the same {name}"
                    )
                given[name], owner[name] = value, part.name
        return given

    def phases(self, steps: int) -> list[Phase]:
        return [phase for part in self.of for phase in part.phases(steps)]

    def rate_of(self, name: str, names: Mapping[str, Any]) -> float:
        return math.prod(part.rate_of(name, names) for part in self.of)

    def rate_at(self, step: int, steps: int) -> float | None:
        return next((rate for part in self.of if (rate := part.rate_at(step, steps)) is not None), None)

    @contextmanager
    def training(self, population: Population, step: int, steps: int) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self.of:
                stack.enter_context(part.training(population, step, steps))
            yield

    def losses(self, population: Population, passes: Passes) -> Tensor:
        return min(self.of, key=lambda part: not part.changes_loss).losses(population, passes)

    def after_step(self, population: Population, step: int, steps: int) -> None:
        for part in self.of:
            part.after_step(population, step, steps)

    @contextmanager
    def predicting(self, population: Population) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self.of:
                stack.enter_context(part.predicting(population))
            yield

    def finish(self, population: Population, score: Score | None = None, outputs: Outputs | None = None) -> None:
        for part in sorted(self.of, key=lambda part: part.finishes_last):
            part.finish(population, score, outputs)


def _conflict(one: Strategy, other: Strategy) -> str:
    """Why two strategies make no sense together; empty if they do."""
    if isinstance(one, type(other)) or isinstance(other, type(one)):
        return "one is a part of the other"
    if why := one.conflicts_with(other) or other.conflicts_with(one):
        return why
    if one.changes_loss and other.changes_loss:
        return "each has its own loss"
    if one.votes and other.votes:
        return "both decide how members vote, and each would need the other's members"
    try:
        Schedule.of([*one.phases(LONG), *other.phases(LONG)], LONG)
    except SettingError:
        return "both fork at the same time"
    return ""
