"""The runs of a training: their seeds, and the fresh models that they start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deni.engine.active_tokens import activate, input_table
from deni.engine.answers import answer
from deni.engine.unequal import EQUAL, Layers, Unequal, rank_axis
from deni.errors import SettingError
from deni.models.architectures import has_adapter
from deni.models.quantized import is_quantized, keep_trainable
from deni.population import Population
from deni.randomness import Sources, derive, global_generators
from deni.strategies import Strategy
from deni.training.engine_choice import EnginePlan

if TYPE_CHECKING:
    from deni.training.trainer import PopulationTrainer


@dataclass(frozen=True)
class RunSeeds:
    """The seeds of all runs.

    Args:
        seeds: of the models that are trained side by side, R or fewer.
        per_model: how many runs make one model: 1, or the runs of an ensemble.
        sources: seeds of single sources of randomness, which all runs share.
        distinct: whether no two seeds may be equal, since nothing else tells the runs apart.

    Raises:
        SettingError: no seeds, or equal ones.

    >>> RunSeeds([3, 4], per_model=2).runs
    4
    """

    seeds: Sequence[int]
    per_model: int = 1
    sources: Mapping[str, int] = field(default_factory=dict)
    distinct: bool = True

    def __post_init__(self) -> None:
        if (self.distinct and len(set(self.seeds)) != len(self.seeds)) or not self.seeds:
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


@dataclass(frozen=True)
class RunSettings:
    """What one of several models that are trained side by side has of its own, besides its seed.

    Args:
        rate: what the learning rate of the training is multiplied with, above 0.
        model_init: makes its model, which may have another dropout, and LoRA of another rank, scaling and dropout; None
            for that of the trainer.
        strategy: with other noise at its forks, else that of the trainer; None for that.
    """

    rate: float = 1.0
    model_init: Callable[[], nn.Module] | None = None
    strategy: Strategy | None = None

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise SettingError(f"the rate of a run is a multiple of the learning rate, above 0, not {self.rate}")


class FreshModels:
    """Makes the models that runs start from.

    Args:
        seeds: of all runs.
        strategy: what it changes in a fresh model.
        make: a new model, drawn from the global generators; called with the trial of a search for hyperparameters.
        settings: of each seed; none where all are alike.
    """

    def __init__(
        self,
        seeds: RunSeeds,
        strategy: Strategy,
        make: Callable[[Any], nn.Module],
        settings: Sequence[RunSettings] = (),
    ) -> None:
        self.seeds, self.strategy, self.make, self.settings = seeds, strategy, make, settings

    def of(self, run: int, trial: Any = None) -> nn.Module:
        """A new model of a run."""
        own = self.settings[run // self.seeds.per_model].model_init if self.settings else None
        with global_generators(self.seeds.sources_of(run).seeds["initialisation"]):
            return self.strategy.prepare_model(self.make(trial) if own is None else own())

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
        initial, layers = [], [Layers.of(model)]
        for run in range(1, self.seeds.runs):
            other = self.of(run, trial)
            initial.append(differences(model, other))
            layers.append(Layers.of(other))
        unequal = Unequal.among(layers) if self.settings else EQUAL
        unequal.widen(model)
        initial = [{name: unequal.padded(name, value) for name, value in each.items()} for each in initial]
        # The other rows come from one frozen table, which all runs must share and no noise may reach.
        noisy = self.strategy.scope == "auto" and has_adapter(model)
        if active is not None and not noisy and not any(n in other for n in input_table(model) for other in initial):
            activate(model, active)
        sources = [self.seeds.sources_of(run, device, rank) for run in range(self.seeds.runs)]
        population = Population(model, sources, plan.engine, initial, plan.at_a_time, unequal)
        plan.follow(population.module)
        return population


def populate(trainer: PopulationTrainer, model: nn.Module, trial: Any = None) -> nn.Module:
    """Give a trainer the population of which this is the model of run 0; returns the module that Trainer sees."""
    plan = trainer.engine_plan or EnginePlan(at_a_time=trainer.at_a_time)
    rank, device = trainer.args.process_index, trainer.args.device
    keep_trainable(model)
    if trainer.losses.answers:
        answer(model)
    population = trainer.fresh.population(model, plan, device, rank, trainer.active_ids, trial)
    trainer.population = trainer.phases.population = population
    return population.module


def differences(model: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """The parameters of another run's model that differ from the first run's, trainable or frozen: name -> tensor.

    Raises:
        SettingError: models that differ in more than values, or in what is held only once for all runs.
    """
    ours, theirs = dict(model.named_parameters()), dict(other.named_parameters())
    kinds = [
        {name: (_shape_but_rank(name, each), each.requires_grad) for name, each in parameters.items()}
        for parameters in (ours, theirs)
    ]
    if odd := [name for name in {**kinds[0], **kinds[1]} if kinds[0].get(name) != kinds[1].get(name)]:
        raise SettingError(
            f"`model_init` must make the same model for each run, with other values: {odd[0]} is in one of them only, "
            "or has another shape, or is frozen in one of them only"
        )
    # What PEFT copied when it made a layer trainable is never computed with.
    unused = [f"{name}." for name in _replaced(model)]
    found = {
        name: theirs[name].detach()
        for name, parameter in ours.items()
        if not _same(parameter, theirs[name]) and not name.startswith(tuple(unused))
    }
    buffers = dict(other.named_buffers())
    shared = [name for name in found if is_quantized(ours[name])] + [
        name
        for name, buffer in model.named_buffers()
        if not (name in buffers and _same(buffer, buffers[name])) and not name.startswith(tuple(unused))
    ]
    if shared:
        raise SettingError(
            f"{shared[0]} differs between runs, which share buffers and quantized weights: train the seeds one by one, "
            "or have `model_init` make it equal for all"
        )
    return found


def _shape_but_rank(name: str, parameter: Tensor) -> tuple[int, ...]:
    axis = rank_axis(name)
    return tuple(size for at, size in enumerate(parameter.shape) if at != axis)


def _replaced(model: nn.Module) -> list[str]:
    """The paths of layers that PEFT has put a trainable copy in the place of."""
    names = [name for name, module in model.named_modules() if hasattr(module, "modules_to_save")]
    return [f"{name}.original_module" for name in names]


def _same(first: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values, NaN included; the other one may be on another device."""
    first, other = first.detach(), other.detach().to(first.device)
    if first.shape != other.shape or first.dtype != other.dtype:
        return False
    return torch.equal(first, other) or bool(((first == other) | ((first != first) & (other != other))).all())
