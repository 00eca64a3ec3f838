"""The members that are alive now: fork, merge, perturb."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deni.engine.active_tokens import deactivate
from deni.engine.fold import trainable_slots
from deni.engine.module import PopulationModule
from deni.engine.unequal import EQUAL, Unequal
from deni.errors import SettingError
from deni.models.architectures import has_adapter, has_linear, head_names, is_linear
from deni.noise import Noise, add_, shake_
from deni.randomness import Sources
from deni.schedule import Fork

Merge = Callable[[dict[str, Tensor]], dict[str, Tensor]]  # {name: (K, *shape)} -> {name: (*shape)}


class Population:
    """R runs with K members each: frozen parameters once, trainable ones as `(M, *shape)` with M = R*K, run-major.

    Frozen parameters that differ between runs (a fresh layer under an adapter) are held once for each run.

    Args:
        model: the plain module; run 0 starts with its parameters.
        sources: the randomness of each run, R of them.
        engine: `stacked` or `loop`, for more than one member.
        initial: parameters of runs 1 to R-1, trainable or frozen, where they differ from the model's: name -> tensor.
        at_a_time: how many members the stacked engine computes in one forward pass; None for all.
        unequal: settings of layers that differ between runs; the model is widened for them, and `initial` is padded.

    Attributes:
        module: what computes the members; its forward pass takes the place of the model's.
        members: K, of each run.
        forks: how many forks there were, so that the copies of each have their own streams.
        loss_scale: what the gradients are multiplied by (fp16), for those who add to them.

    Raises:
        SettingError: a model without trainable parameters.
        deni.engine.layers.Unstackable: engine `stacked` for a model that cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        sources: Sequence[Sources],
        engine: Literal["loop", "stacked"] = "stacked",
        initial: Sequence[Mapping[str, Tensor]] = (),
        at_a_time: int | None = None,
        unequal: Unequal = EQUAL,
    ) -> None:
        slots = trainable_slots(model)
        if not slots:
            raise SettingError("the model has no trainable parameters")
        self.sources = list(sources)
        self.members = 1
        self.forks = 0
        self.loss_scale = 1.0
        self._head_names: list[str] | None = None
        others = list(initial) or [{}] * (self.runs - 1)
        if len(others) != self.runs - 1:
            raise SettingError(f"{self.runs} runs need {self.runs - 1} initial values, not {len(initial)}")

        def of_all_runs(name: str, first: Tensor) -> Tensor:
            return torch.stack([first, *(other.get(name, first).to(first) for other in others)])

        given = {name for other in others for name in other}
        stacks = {
            name: of_all_runs(name, parameter.detach())
            for name, parameter in model.named_parameters()
            if name in slots or name in given
        }
        held = {name: stacks.pop(name) for name in list(stacks) if name not in slots}
        self.module = PopulationModule(model, slots, engine, at_a_time, held, unequal, self.runs)
        streams = [each["dropout"] for each in self.sources]
        self.module.install(stacks, streams, [0] + [None] * (self.runs - 1))

    # ---- what it is ------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> int:
        """R."""
        return len(self.sources)

    @property
    def size(self) -> int:
        """M = R*K, all members."""
        return self.runs * self.members

    @property
    def model(self) -> nn.Module:
        """The module that the members are members of, with whatever layers the engine has put into it; see `plain`."""
        return self.module.model

    @property
    def config(self) -> Any:
        """The model's config."""
        return self.module.config

    @property
    def slots(self) -> Mapping[str, Sequence[tuple[nn.Module, str]]]:
        """Where each trainable parameter sits in the plain module: name -> all (module, key)."""
        return self.module.slots

    @property
    def values(self) -> dict[str, Tensor]:
        """The trainable parameters of all members: name -> `(M, *shape)`."""
        return self.module.values

    @property
    def views(self) -> dict[str, list[nn.Parameter]]:
        """Leaves over the values of single members, which the optimizer sees: name -> M of them."""
        return self.module.views

    @property
    def streams(self) -> list[torch.Generator]:
        """The generator of each member's dropout, M of them."""
        return self.module.streams

    @property
    def kept(self) -> dict[str, dict[str, Tensor]]:
        """What a strategy keeps next to the members, keyed by its name; it is in checkpoints."""
        return self.module.kept

    @property
    def engine_name(self) -> Literal["loop", "stacked"]:
        """How more than one member is computed."""
        return self.module.engine_name

    # ---- members ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fork(self, members: int, fork: Fork | Sequence[Fork] | None = None) -> None:
        """One member of each run becomes K: the parent, unchanged, and K-1 copies with noise from the run's source.

        Args:
            members: K, at least 1.
            fork: the noise on the copies, of all runs or of each; None for no noise.
        """
        forks = [fork or Fork()] * self.runs if fork is None or isinstance(fork, Fork) else list(fork)
        if self.members != 1:
            raise RuntimeError(f"a population of {self.members} members a run cannot fork: merge it first")
        if members < 1:
            raise SettingError(f"members must be at least 1, not {members}")
        self.forks += 1
        values = {name: value.repeat_interleave(members, 0) for name, value in self.values.items()}
        origins: list[int | None] = []
        streams = []
        for run, (source, fork) in enumerate(zip(self.sources, forks, strict=True)):
            names = self.scope(fork.noise.scope)
            origins += [run, *[None] * (members - 1)]
            streams.append(self.streams[run])
            streams += [source.derived("dropout", "fork", self.forks, copy) for copy in range(1, members)]
            if fork.noise.variance:
                own = {name: self.own(name, run, values[name]) for name in names}
                copies = [[own[name][run * members + copy] for name in names] for copy in range(1, members)]
                drawn, opposite = (copies[::2], copies[1::2]) if fork.antithetic else (copies, [])
                for rows, others in itertools.zip_longest(drawn, opposite, fillvalue=()):
                    add_(rows, fork.noise, source["noise"], others)
        self.members = members
        self.module.install(values, streams, origins)

    @torch.no_grad()
    def merge(self, mean: Merge | None = None) -> None:
        """The K members of each run become one again: the mean of their trainable parameters.

        Args:
            mean: another mean over the members; the default is exact for equal members.
        """
        mean = mean or mean_of_members
        grouped = {name: value.unflatten(0, (self.runs, self.members)) for name, value in self.values.items()}
        runs = [
            mean({name: self.own(name, run, value[run]) for name, value in grouped.items()}) for run in range(self.runs)
        ]
        unequal = self.module.unequal
        values = {name: torch.stack([unequal.padded(name, run[name]) for run in runs]) for name in self.slots}
        origins: list[int | None] = [run * self.members for run in range(self.runs)]
        streams = [self.streams[run * self.members] for run in range(self.runs)]
        self.members = 1
        self.module.install(values, streams, origins)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside, each run is the mean of its members: for prediction only, since the optimizer does not follow."""
        values_before = {name: value.detach().clone() for name, value in self.values.items()}
        members, streams = self.members, self.streams
        self.merge()
        try:
            yield
        finally:
            self.replace(values_before, members)
            self.module.streams = streams

    @torch.no_grad()
    def perturb(self, noise: Noise) -> None:
        """Add noise to every member, from its run's source."""
        names = self.scope(noise.scope)
        for member in range(self.size):
            source = self.sources[member // self.members]
            rows = [self.own(name, member // self.members, self.values[name][member]) for name in names]
            add_(rows, noise, source["noise"])

    @torch.no_grad()
    def shake(self, names: Sequence[str], intensity: float) -> None:
        """Add NoisyTune's uniform noise to these tensors of every member, from its run's source."""
        for member in range(self.size):
            rows = [self.own(name, member // self.members, self.values[name][member]) for name in names]
            shake_(rows, intensity, self.sources[member // self.members]["noise"])

    @torch.no_grad()
    def take(self, values: Mapping[str, Tensor]) -> None:
        """Replace some values by these, in the same shapes; views and optimizer state stay."""
        for name, value in values.items():
            if name in self.values:
                self.values[name].copy_(value)

    @contextmanager
    def holding(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, these values replace some of the population's."""
        values_before = {name: self.values[name].detach().clone() for name in values if name in self.values}
        self.take(values)
        try:
            yield
        finally:
            self.take(values_before)

    @torch.no_grad()
    def replace(self, values: Mapping[str, Tensor], members: int, copy: bool = True) -> None:
        """Take other members.

        Args:
            values: name -> `(R*members, *shape)`, as a checkpoint holds them.
            copy: whether they stay the caller's: the optimizer would otherwise train these tensors. Those of a file may
                be taken as they are, mapped into memory.
        """
        for name in self.slots:
            wanted = (self.runs * members, *self.views[name][0].shape)
            if name not in values or tuple(values[name].shape) != wanted:
                raise ValueError(f"{name}: not the {wanted} values of this model")
        origins: list[int | None] = []
        for run in range(self.runs):
            origins += [run * self.members, *[None] * (members - 1)]
        streams = [
            self.streams[run * self.members]
            if member == 0
            else self.sources[run].derived("dropout", "fork", self.forks, member)
            for run in range(self.runs)
            for member in range(members)
        ]
        self.members = members
        taken = {name: values[name].detach().to(self.values[name], copy=copy) for name in self.slots}
        self.module.install(taken, streams, origins)

    def scope(self, scope: str) -> list[str]:
        """The names of the tensors that a noise with this scope reaches."""
        if scope == "auto":
            scope = "trainable" if has_adapter(self.model) or not self._has_linear() else "head"
        return self._head() if scope == "head" else list(self.slots)

    def _has_linear(self) -> bool:
        with self.plain() as model:
            return has_linear(model)

    def _head(self) -> list[str]:
        """The names of the head's tensors, looked up once: in the plain module, for twins are no linear layers."""
        if self._head_names is None:
            with self.plain() as model:
                self._head_names = head_names(model, list(self.slots))
        return self._head_names

    def linear_weights(self) -> list[str]:
        """The names of the weights of linear layers that train, GPT-2's among them, see `is_linear`."""
        places = {name: where[0] for name, where in self.slots.items()}
        return [name for name, (module, key) in places.items() if is_linear(module) and key == "weight"]

    def member(self, member: int) -> dict[str, Tensor]:
        """The tensors of one member, trainable or its run's own, under the plain model's names; embeddings whole."""
        return self.module.member(member)

    @property
    def alike(self) -> bool:
        """Whether all members have the same layers, so that they can be one artifact."""
        return not (self.module.unequal.scaling or self.module.unequal.shapes)

    def own(self, name: str, run: int, value: Tensor) -> Tensor:
        """A parameter of a run without the padding of its rank, see `deni.engine.unequal`; a view."""
        return self.module.unequal.own(name, run, value)

    def full(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of one member, with whole tables in place of active rows."""
        return self.module.full(values)

    @torch.no_grad()
    def copy_of(self, values: Mapping[str, Tensor], member: int = 0, share_frozen: bool = False) -> nn.Module:
        """An independent plain model with these trainable tensors, as `full` gives them.

        Args:
            member: whose layers it has, where runs have their own settings.
            share_frozen: whether its frozen parameters are this population's, not copies.
        """
        with self.alone(member) as model:
            shared = [each for each in model.parameters() if share_frozen and not each.requires_grad]
            copied = deepcopy(model, {id(each): each for each in shared})
        deactivate(copied)
        run = self.module.run_of(member)
        parameters = dict(copied.named_parameters(remove_duplicate=False))
        for name, value in values.items():
            parameters[name].copy_(value)
        self.module.unequal.narrow(copied, run)
        return copied

    @torch.no_grad()
    def part(self, members: Sequence[int]) -> Population:
        """Some members as a population of one run, for prediction; its frozen parameters are this population's.

        Args:
            members: at least one, of runs whose layers have the same settings.
        """
        each = [self.member(member) for member in members]
        model = self.copy_of(each[0], members[0], share_frozen=True)
        part = Population(model, [Sources(0)], self.engine_name, at_a_time=self.module.at_a_time)
        if len(each) > 1:
            run = self.module.run_of(members[0])
            part.fork(len(each))
            part.replace(
                {name: torch.stack([self.own(name, run, one[name]) for one in each]) for name in part.slots}, len(each)
            )
        return part

    # ---- the plain module ------------------------------------------------------------------------------------------

    def plain(self) -> AbstractContextManager[nn.Module]:
        """Inside, the plain module with member 0 in it."""
        return self.alone(0)

    def leave_model(self) -> None:
        """Compute with a copy of the plain module from now on; the one so far is left with member 0 in plain layers."""
        self._head_names = None
        self.module.leave()

    def alone(self, member: int) -> AbstractContextManager[nn.Module]:
        """Inside, the plain module with this member in it."""
        return self.module.alone(member)


def mean_of_members(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over members, name by name: `(K, *shape)` becomes `(*shape)`; equal members give exactly themselves."""
    return {name: value[0] + (value - value[:1]).mean(0) for name, value in values.items()}
