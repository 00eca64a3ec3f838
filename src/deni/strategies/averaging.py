"""What strategies with a mean over time have in common: it is kept next to the members, and it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deni.strategies.base import LONG, Outputs, Score, Strategy

if TYPE_CHECKING:
    from deni.population import Population

COUNT = "count"


@dataclass(frozen=True)
class Averaging(Strategy):
    """A strategy whose model is a mean of the parameters over time."""

    def mean_function(self) -> Callable:
        """How the mean moves, as a `multi_avg_fn` of `torch.optim.swa_utils.AveragedModel`."""
        raise NotImplementedError

    def conflicts_with(self, other: Strategy) -> str:
        if isinstance(other, Averaging):
            return "each would predict with a mean of its own"
        if other.phases(LONG):
            return "a mean over time needs one model from beginning to end, and a fork makes several"
        return ""

    def update(self, population: Population) -> None:
        """Take the parameters of this moment into the mean."""
        import torch

        kept = population.kept.get(self.name)
        if kept is None:
            start = {name: value.detach().clone() for name, value in population.values.items()}
            population.kept[self.name] = {**start, COUNT: torch.ones((), dtype=torch.int64)}
            return
        names = list(population.values)
        now = [population.values[name].detach() for name in names]
        self.mean_function()([kept[name] for name in names], now, int(kept[COUNT]))
        kept[COUNT] += 1

    @contextmanager
    def predicting(self, population: Population) -> Iterator[None]:
        with population.holding(population.kept.get(self.name, {})):
            yield

    def finish(self, population: Population, score: Score | None = None, outputs: Outputs | None = None) -> None:
        population.take(population.kept.pop(self.name, {}))
