"""The runs of a training: their seeds, and the fresh models that they start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deni.engine.active_tokens import activate
from deni.engine.fold import trainable_slots
from deni.errors import SettingError
from deni.population import Population
from deni.randomness import Sources, derive, global_generators
from deni.strategies import Strategy
from deni.training.engine_choice import EnginePlan


@dataclass(frozen=True)
class RunSeeds:
    """The seeds of all runs.

    Args:
        seeds: of the models that are trained side by side, R or fewer.
        per_model: how many runs make one model: 1, or the runs of an ensemble.
        sources: seeds of single sources of randomness, which all runs share.

    Raises:
        SettingError: no seeds, or equal ones.

    >>> RunSeeds([3, 4], per_model=2).runs
    4
    """

    seeds: Sequence[int]
    per_model: int = 1
    sources: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.seeds)) != len(self.seeds) or not self.seeds:
            raise SettingError(f"seeds must be distinct and at least one, not {self.seeds}")

    @property
    def runs(self) -> int:
        """R."""
        return len(self.seeds) * self.per_model

    def sources_of(self, run: int, device: torch.device | str = "cpu", rank: int = 0) -> Sources:
        """The randomness of a run: the user's seeds for the first run of a model, derived ones in an ensemble's rest.

        Processes of one training share all sources but dropout: they see different rows.
        """
        seed, member = self.seeds[run // self.per_model], run % self.per_model
        seeds = {"": seed, **self.sources}
        if member:
            seeds = {name: derive(each, "ensemble", member) for name, each in seeds.items()}
        if rank:
            seeds["dropout"] = derive(seeds.get("dropout", seeds[""]), "rank", rank)
        return Sources(seeds.pop(""), device, seeds)


class FreshModels:
    """Makes the models that runs start from.

    Args:
        seeds: of all runs.
        strategy: what it changes in a fresh model.
        make: a new model, drawn from the global generators; called with the trial of a search for hyperparameters.
    """

    def __init__(self, seeds: RunSeeds, strategy: Strategy, make: Callable[[Any], nn.Module]) -> None:
        self.seeds, self.strategy, self.make = seeds, strategy, make

    def of(self, run: int, trial: Any = None) -> nn.Module:
        """A new model of a run."""
        with global_generators(self.seeds.sources_of(run).seeds["initialisation"]):
            return self.strategy.prepare_model(self.make(trial))

    def given(self, model: nn.Module | None) -> nn.Module | None:
        """The model that the user made, for the only run."""
        torch.manual_seed(self.seeds.sources_of(0).seeds["initialisation"])
        return model if model is None else self.strategy.prepare_model(model)

    def population(
        self,
        model: nn.Module,
        plan: EnginePlan,
        device: torch.device,
        rank: int = 0,
        active: Tensor | None = None,
        trial: Any = None,
    ) -> Population:
        """The population whose run 0 starts as `model`, and whose other runs start as their own models.

        Args:
            plan: how members are computed.
            rank: of the process.
            active: token ids whose embeddings train; None for all.
        """
        _activate(model, active)
        initial = []
        for run in range(1, self.seeds.runs):
            other = self.of(run, trial)
            _activate(other, active)
            slots = trainable_slots(other)
            initial.append({name: places[0][0]._parameters[places[0][1]].detach() for name, places in slots.items()})  # type: ignore[union-attr]
        sources = [self.seeds.sources_of(run, device, rank) for run in range(self.seeds.runs)]
        population = Population(model, sources, plan.engine, initial, plan.at_a_time)
        population.module.compute = plan.compute
        return population


def _activate(model: nn.Module, ids: Tensor | None) -> None:
    if ids is not None:
        activate(model, ids)
