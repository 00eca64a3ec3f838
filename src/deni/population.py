"""The members that are alive now, as one module: fork, merge, perturb."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deni.engine import passes
from deni.engine.active_tokens import ActiveEmbedding
from deni.engine.base import Engine
from deni.engine.dropout import MemberDropout, Padding, Streams, checkpoint_contexts
from deni.engine.fold import fold_rows, trainable_slots
from deni.engine.frozen import CastOnce
from deni.engine.loop import Loop
from deni.engine.stacked import Stacked
from deni.models.architectures import has_adapter, head_names
from deni.noise import Noise, add_, shake_
from deni.randomness import Sources
from deni.schedule import Fork

Merge = Callable[[dict[str, Tensor]], dict[str, Tensor]]  # {name: (K, *shape)} -> {name: (*shape)}


class Population(nn.Module):
    """R runs with K members each: frozen parameters once, trainable ones as `(M, *shape)` with M = R*K, run-major.

    With one member it runs the plain module; with more an engine computes them. The tensors of `values` are the
    truth; `views` are leaves over single members, which the optimiser sees.

    Args:
        model: the plain module; run 0 starts with its parameters.
        sources: the randomness of each run, R of them.
        engine: `stacked` or `loop`, for more than one member.
        initial: trainable parameters of runs 1 to R-1, where they differ from the model's: name -> tensor.
        at_a_time: how many members the stacked engine computes in one forward pass; None for all.

    Raises:
        ValueError: a model without trainable parameters.
        deni.engine.layers.Unstackable: engine `stacked` for a model that cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        sources: Sequence[Sources],
        engine: Literal["loop", "stacked"] = "stacked",
        initial: Sequence[Mapping[str, Tensor]] = (),
        at_a_time: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.sources = list(sources)
        self.slots = trainable_slots(model)
        if not self.slots:
            raise ValueError("the model has no trainable parameters")
        self.engine_name, self.at_a_time = engine, at_a_time
        self.members = 1  # K, of each run
        self.forks = 0  # how many forks there were, so that the copies of each have streams of their own
        self._loop = Loop(model, self.slots)
        self._head_names: list[str] | None = None
        self._many: Engine | None = None
        self._engine: Engine = self._loop
        self._focus = range(1)
        templates = {name: places[0][0]._parameters[places[0][1]] for name, places in self.slots.items()}
        self.views: dict[str, list[nn.Parameter]] = {name: [value] for name, value in templates.items()}  # type: ignore[list-item]
        self.values: dict[str, Tensor] = {}
        self.streams = [each["dropout"] for each in self.sources]
        self.kept: dict[str, dict[str, Tensor]] = {}  # what a strategy keeps beside the members, by its name
        self.loss_scale = 1.0  # what the gradients are multiplied with (fp16), for those who add to them
        self.lengths: Sequence[int] | None = None  # of a pack: tokens that each member in focus would have alone
        self.padding_side = "right"
        self.by_length = False  # whether a pack's rows of like length are computed in passes of their own
        self._cast_once = CastOnce()
        starts = [{name: template.detach() for name, template in templates.items()}, *initial]  # type: ignore[union-attr]
        if len(starts) == 1:
            starts *= self.runs
        if len(starts) != self.runs:
            raise ValueError(f"{self.runs} runs need {self.runs - 1} initial values, not {len(initial)}")
        stacks = {name: torch.stack([start[name].to(starts[0][name]) for start in starts]) for name in self.slots}
        self._install(stacks, [0] + [None] * (self.runs - 1))
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            if hasattr(model, "_require_grads_hook") or hasattr(model, "_require_grads_hooks"):  # in 4, in 5
                model.disable_input_require_grads()  # type: ignore[operator]
            self.gradient_checkpointing_enable()  # whoever switched it on, the masks must be drawn again

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
    def config(self) -> Any:
        """The model's config."""
        return self.model.config

    def __getattr__(self, name: str) -> Any:
        """What is asked of a model (`dtype`, `device`, `floating_point_ops`, ...) the plain one answers."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    # ---- members ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fork(self, members: int, fork: Fork | None = None) -> None:
        """One member of each run becomes K: the parent, unchanged, and K-1 copies with noise from the run's source.

        Args:
            members: K, at least 1.
            fork: the noise on the copies; None for no noise.
        """
        fork = fork or Fork()
        if self.members != 1:
            raise RuntimeError(f"a population of {self.members} members a run cannot fork: merge it first")
        if members < 1:
            raise ValueError(f"members must be at least 1, not {members}")
        self.forks += 1
        values = {name: value.repeat_interleave(members, 0) for name, value in self.values.items()}
        origins: list[int | None] = []
        streams = []
        names = self.scope(fork.noise.scope)
        for run, source in enumerate(self.sources):
            origins += [run, *[None] * (members - 1)]
            streams.append(self.streams[run])
            streams += [source.derived("dropout", "fork", self.forks, copy) for copy in range(1, members)]
            if fork.noise.variance:
                copies = [[values[name][run * members + copy] for name in names] for copy in range(1, members)]
                drawn, opposite = (copies[::2], copies[1::2]) if fork.antithetic else (copies, [])
                for rows, others in itertools.zip_longest(drawn, opposite, fillvalue=()):
                    add_(rows, fork.noise, source["noise"], others)
        self.members, self.streams = members, streams
        self._install(values, origins)

    @torch.no_grad()
    def merge(self, mean: Merge | None = None) -> None:
        """The K members of each run become one again: the mean of their trainable parameters.

        Args:
            mean: another mean over the members; the default is exact for equal members.
        """
        mean = mean or mean_of_members
        grouped = {name: value.unflatten(0, (self.runs, self.members)) for name, value in self.values.items()}
        runs = [mean({name: value[run] for name, value in grouped.items()}) for run in range(self.runs)]
        values = {name: torch.stack([run[name] for run in runs]) for name in self.slots}
        origins: list[int | None] = [run * self.members for run in range(self.runs)]
        self.streams = [self.streams[run * self.members] for run in range(self.runs)]
        self.members = 1
        self._install(values, origins)

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Inside, each run is the mean of its members: for predicting, since no optimiser follows."""
        own = {name: value.detach().clone() for name, value in self.values.items()}
        members, streams = self.members, self.streams
        self.merge()
        try:
            yield
        finally:
            self.replace(own, members)
            self.streams = streams

    @torch.no_grad()
    def perturb(self, noise: Noise) -> None:
        """Add noise to every member, from its run's source."""
        names = self.scope(noise.scope)
        for member in range(self.size):
            source = self.sources[member // self.members]
            rows = [self.values[name][member] for name in names]
            add_(rows, noise, source["noise"])

    @torch.no_grad()
    def shake(self, names: Sequence[str], intensity: float) -> None:
        """Add NoisyTune's uniform noise to these tensors of every member, from its run's source."""
        for member in range(self.size):
            rows = [self.values[name][member] for name in names]
            shake_(rows, intensity, self.sources[member // self.members]["noise"])

    @torch.no_grad()
    def take(self, values: Mapping[str, Tensor]) -> None:
        """Take these values in place of some of its own, in the same shapes; views and optimiser state stay."""
        for name, value in values.items():
            if name in self.values:
                self.values[name].copy_(value)

    @contextmanager
    def holding(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, these values are in place of some of its own."""
        own = {name: self.values[name].detach().clone() for name in values if name in self.values}
        self.take(values)
        try:
            yield
        finally:
            self.take(own)

    @torch.no_grad()
    def replace(self, values: Mapping[str, Tensor], members: int) -> None:
        """Take other members: name -> `(R*members, *shape)`, as a checkpoint holds them."""
        for name in self.slots:
            wanted = (self.runs * members, *self.views[name][0].shape)
            if name not in values or tuple(values[name].shape) != wanted:
                raise ValueError(f"{name}: not the {wanted} values of this model")
        origins: list[int | None] = []
        for run in range(self.runs):
            origins += [run * self.members, *[None] * (members - 1)]
        if members > 1:
            self.streams = [
                self.streams[run * self.members]
                if copy == 0
                else self.sources[run].derived("dropout", "fork", self.forks, copy)
                for run in range(self.runs)
                for copy in range(members)
            ]
        else:
            self.streams = [self.streams[run * self.members] for run in range(self.runs)]
        self.members = members
        # A copy: the optimiser would otherwise train the caller's tensors.
        self._install({name: values[name].detach().to(self.values[name], copy=True) for name in self.slots}, origins)

    def scope(self, scope: str) -> list[str]:
        """The names of the tensors that a noise with this scope reaches."""
        if scope == "auto":
            scope = "trainable" if has_adapter(self.model) else "head"
        return self._head() if scope == "head" else list(self.slots)

    def _head(self) -> list[str]:
        """The names of the head's tensors, looked up once: in the plain module, for twins are no linear layers."""
        if self._head_names is None:
            self._head_names = head_names(self.plain(), list(self.slots))
            self.restore()
        return self._head_names

    def linear_weights(self) -> list[str]:
        """The names of the weights of linear layers that train."""
        places = {name: where[0] for name, where in self.slots.items()}
        return [name for name, (module, key) in places.items() if isinstance(module, nn.Linear) and key == "weight"]

    def member(self, member: int) -> dict[str, Tensor]:
        """The trainable tensors of one member under the plain model's names, `(*shape)`; embeddings whole."""
        return self.full({name: value[member] for name, value in self.values.items()})

    def full(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of one member, with whole tables in place of active rows."""
        tables = {
            name: module
            for name, places in self.slots.items()
            for module, _ in places
            if isinstance(module, ActiveEmbedding)
        }
        return {name: tables[name].full(value) if name in tables else value for name, value in values.items()}

    # ---- computing -------------------------------------------------------------------------------------------------

    @property
    def chunks(self) -> tuple[range, ...]:
        """Which members are computed together; a training step visits all of them."""
        return self._engine.chunks

    @property
    def in_focus(self) -> range:
        """The members that the next forward passes compute."""
        return self._focus

    def focus(self, chunk: range) -> None:
        """The next forward passes compute these members."""
        self._focus = chunk

    def focus_rows(self, batch: int) -> None:
        """The next forward pass of the plain module computes so many rows of each member in focus."""
        self._engine.focus(self._focus, batch)

    def forward(self, lengths: Sequence[int] | None = None, padding_side: str = "right", **inputs: Any) -> Any:
        """Compute the members in focus.

        Args:
            lengths: T that the batch of each run, or of each member, would have alone, for those that are padded to the
                longest of them.
            padding_side: where they are padded, `right` or `left`.
            inputs: folded, `(members in focus * B, ...)`, member by member; see `fold`.

        Returns:
            what the model returns, folded.
        """
        rows = next(len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim())
        chunk = self._focus
        self._engine.focus(chunk, rows // len(chunk))
        if not self.training:
            return self.model(**inputs)
        with self._cast_once:
            return self._train_forward(lengths, padding_side, inputs)

    def _train_forward(self, lengths: Sequence[int] | None, padding_side: str, inputs: dict[str, Any]) -> Any:
        """With the members' dropout, and by length where that is chosen."""
        chunk = self._focus
        padding, self.lengths, self.padding_side = None, None, padding_side
        streams = self.streams[chunk.start : chunk.stop]
        if lengths:
            self.lengths = [lengths[member * len(lengths) // self.size] for member in chunk]
            padding = Padding(self.lengths, max(lengths), padding_side)
            if self.by_length and not self._has_hooks():  # a hook would see a part of the rows
                divided = passes.divide(inputs["attention_mask"], len(chunk))
                if len(divided.parts) > 1:
                    return passes.compute(self.model, inputs, streams, padding, divided, self.focus_rows)
        with MemberDropout(Streams(streams, padding)):
            return self.model(**inputs)

    def train(self, mode: bool = True) -> Population:
        """Switch between training and evaluation; after a training frozen weights may change."""
        if not mode:
            self._cast_once.forget()
        return super().train(mode)

    def _has_hooks(self) -> bool:
        return any(module._forward_hooks or module._forward_pre_hooks for module in self.model.modules())

    def fold(self, inputs: Mapping[str, Any], groups: int = 1) -> dict[str, Any]:
        """Inputs for the members in focus.

        Args:
            inputs: `(groups*B, ...)`.
            groups: 1: the same rows for all; R: each run has rows of its own; M: each member.
        """
        return fold_rows(inputs, [member * groups // self.size for member in self._focus], groups)

    def collect(self) -> None:
        """Bring the gradients of the last backward passes into the views."""
        self._engine.collect()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of every member."""
        self._engine.zero_grad()

    def _install(self, values: dict[str, Tensor], origins: Sequence[int | None]) -> None:
        """Take these values; a member with an origin keeps that member's view, so its optimiser state stays."""
        if self._engine is not self._loop:
            self._engine.unmount()
        views = {}
        for name, value in values.items():
            old = self.views[name]
            views[name] = [
                nn.Parameter(value[member]) if origin is None else old[origin] for member, origin in enumerate(origins)
            ]
            for member, view in enumerate(views[name]):
                view.data, view.grad = value[member], None
        self.values, self.views = values, views
        many = len(origins) > 1
        if many and self._many is None:
            self._loop.mount(values, views)
            self._many = (
                Stacked(self.model, self.slots, self.at_a_time) if self.engine_name == "stacked" else self._loop
            )
        self._engine = self._many if many and self._many is not None else self._loop
        self._loop.mount(values, views)  # the plain layers always hold member 0
        if self._engine is not self._loop:
            self._engine.mount(values, views)
        self._focus = self._engine.chunks[0]

    def choose(self, engine: Literal["loop", "stacked"], at_a_time: int | None = None) -> None:
        """Compute the members with another engine from now on."""
        if self._engine is not self._loop:
            self._engine.unmount()
        self.engine_name, self.at_a_time, self._many = engine, at_a_time, None
        self._engine = self._loop
        self._install(self.values, list(range(self.size)))

    def plain(self) -> nn.Module:
        """The plain module with member 0 in it; valid until the next forward pass, `restore` undoes it."""
        if self._engine is not self._loop:
            self._engine.unmount()
        self._loop.focus(range(1), 0)
        return self.model

    @contextmanager
    def alone(self, member: int) -> Iterator[nn.Module]:
        """Inside, the plain module with this member in it."""
        model = self.plain()
        self._loop.focus(range(member, member + 1), 0)
        try:
            yield model
        finally:
            self.plain()
            self.restore()

    def restore(self) -> None:
        """Point the model at the members again after `plain`."""
        if self._engine is not self._loop:
            self._engine.mount(self.values, self.views)

    # ---- what Trainer asks of a model ------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Recompute activations in the backward pass, with the masks of the forward pass."""
        with self._without_new_hooks():
            self.model.gradient_checkpointing_enable(  # type: ignore[operator]
                self._checkpointing(gradient_checkpointing_kwargs)
            )

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The same under its name in transformers 5."""
        with self._without_new_hooks():
            self.model.activation_checkpointing_enable(  # type: ignore[operator]
                self._checkpointing(activation_checkpointing_kwargs), **options
            )

    @contextmanager
    def _without_new_hooks(self) -> Iterator[None]:
        """Reentrant checkpointing needs a hook that makes embeddings require gradients; ours does not."""
        hooks = self.model.get_input_embeddings()._forward_hooks  # type: ignore[operator, union-attr]
        before = set(hooks)
        yield
        for key in set(hooks) - before:
            del hooks[key]

    def _checkpointing(self, kwargs: dict[str, Any] | None) -> dict[str, Any]:
        if (kwargs or {}).get("use_reentrant"):
            raise ValueError("reentrant checkpointing would draw other dropout masks: use_reentrant=False")
        if hasattr(self.model, "adapters_config"):
            raise ValueError("adapters recomputes with other dropout masks: switch gradient_checkpointing off")
        return {**(kwargs or {}), "use_reentrant": False, "context_fn": checkpoint_contexts}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Population:
        """Move or cast everything: the plain module first, then the members."""
        self.plain()
        super()._apply(fn, recurse)
        values = {name: fn(value) for name, value in self.values.items()}
        self.kept = {key: {name: fn(value) for name, value in kept.items()} for key, kept in self.kept.items()}
        self._install(values, list(range(self.size)))
        return self


def mean_of_members(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean over members, name by name: `(K, *shape)` becomes `(*shape)`; equal members give exactly themselves."""
    return {name: value[0] + (value - value[:1]).mean(0) for name, value in values.items()}


def mean_per_member(folded: Tensor, members: int) -> Tensor:
    """Means of a folded per-example loss: `(M*B,)` becomes `(M,)`."""
    return folded.unflatten(0, (members, -1)).mean(1)
