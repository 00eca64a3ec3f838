"""What Trainer sees as a model: one module whose forward pass computes the members of a population."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from deni.engine.active_tokens import ActiveEmbedding, deactivate
from deni.engine.base import Engine, Slots
from deni.engine.compat import disable_input_gradients
from deni.engine.dropout import MemberDropout, Padding, Streams, checkpoint_contexts
from deni.engine.fold import fold_rows, slots_of, trainable_slots
from deni.engine.frozen import CastOnce
from deni.engine.loop import Loop
from deni.engine.stacked import Stacked
from deni.engine.token_axes import Measured, measure
from deni.engine.unequal import EQUAL, Unequal
from deni.errors import SettingError
from deni.models.hugging_face import hugging_face


class Compute(Protocol):
    """How a batch is computed: in one pass, or in several; with its padding, or without."""

    def __call__(
        self, model: nn.Module, inputs: Mapping[str, Any], streams: Streams, focus: Callable[[int], None]
    ) -> Any:
        """Return what the model returns for inputs `(M*B, ...)`, or a dictionary with its `logits` `(M*B, C)`.

        Args:
            streams: of the dropout of each member in focus.
            focus: tells the engine how many rows of each member the next pass of the model has.
        """


def in_one_pass(
    model: nn.Module, inputs: Mapping[str, Any], streams: Streams, focus: Callable[[int], None] | None = None
) -> Any:
    """Compute all rows together."""
    with MemberDropout(streams):
        return model(**inputs)


def as_it_is(
    model: nn.Module, inputs: Mapping[str, Any], streams: Streams, focus: Callable[[int], None] | None = None
) -> Any:
    """Compute all rows together, without dropout."""
    return model(**inputs)


class PopulationModule(nn.Module):
    """The plain module, pointed at the members of a population.

    With one member it runs the plain module; with more an engine computes them. The tensors of `values` are the
    truth; `views` are leaves over single members, which the optimizer sees.

    Args:
        model: the plain module.
        slots: where its trainable parameters sit.
        engine: `stacked` or `loop`, for more than one member.
        at_a_time: how many members the stacked engine computes in one forward pass; None for all.
        held: frozen parameters that differ between runs: name -> `(R, *shape)`.
        unequal: settings of layers that differ between runs.
        runs: R.

    Attributes:
        values: name of a trainable parameter -> `(M, *shape)`.
        views: name -> one leaf for each member.
        streams: the generator of each member's dropout, M of them.
        kept: tensors that a strategy keeps next to the members, keyed by its name; they move with the members.
        compute: how a training batch is computed.
        predict: how a batch is computed in evaluation mode.
        lengths: of a pack in training: tokens that the batch of each member in focus would have alone; else None.
        padding_side: where the batch is padded, `right` or `left`.
        measured: what dropout sees; None before it is known.
    """

    def __init__(
        self,
        model: nn.Module,
        slots: Slots,
        engine: Literal["loop", "stacked"] = "stacked",
        at_a_time: int | None = None,
        held: Mapping[str, Tensor] | None = None,
        unequal: Unequal = EQUAL,
        runs: int = 1,
    ) -> None:
        super().__init__()
        self.model, self.slots = model, slots
        self.unequal, self._runs, self._bind = unequal, runs, unequal.bound(model)
        self.engine_name, self.at_a_time = engine, at_a_time
        self.held = dict(held or {})
        self._places = {**slots, **slots_of(model, self.held)}
        self._loop = Loop(model, self._places)
        self._many: Engine | None = None
        self._engine: Engine = self._loop
        self._focus = range(1)
        parameters = {name: places[0][0]._parameters[places[0][1]] for name, places in slots.items()}
        self.views: dict[str, list[nn.Parameter]] = {name: [value] for name, value in parameters.items()}  # type: ignore[list-item]
        self.values: dict[str, Tensor] = {}
        self.streams: list[torch.Generator] = []
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.compute: Compute = in_one_pass
        self.predict: Compute = as_it_is
        self.lengths: Sequence[int] | None = None
        self.padding_side = "right"
        self.measured: Measured | None = None
        self._cast_once = CastOnce()
        self._alone: int | None = None
        if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
            disable_input_gradients(model)
            self.gradient_checkpointing_enable()  # whoever switched it on, the masks must be drawn again

    @property
    def size(self) -> int:
        """M, all members."""
        return len(self.streams)

    def run_of(self, member: int) -> int:
        """The run of a member."""
        return member * self._runs // self.size

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

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the plain module, under its names."""
        return self.model.named_parameters(*args, **options)

    # ---- members ---------------------------------------------------------------------------------------------------

    def install(
        self, values: dict[str, Tensor], streams: Sequence[torch.Generator], origins: Sequence[int | None]
    ) -> None:
        """Compute these members from now on.

        Args:
            values: name -> `(M, *shape)`.
            streams: of the dropout of each member.
            origins: of each member, which one it was; it keeps that one's view, so its optimizer state stays. None for
                a new member.

        Raises:
            deni.engine.layers.Unstackable: engine `stacked` for a model that cannot be.
        """
        self.streams = list(streams)
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
            self._mount(self._loop)
            self._many = (
                Stacked(self.model, self._places, self.at_a_time) if self.engine_name == "stacked" else self._loop
            )
        self._engine = self._many if many and self._many is not None else self._loop
        self._mount(self._loop)  # the plain layers always hold member 0
        if self._engine is not self._loop:
            self._mount(self._engine)
        self._focus = self._engine.chunks[0]

    def _mount(self, engine: Engine) -> None:
        """Point an engine at the members, and at the frozen parameters of their runs."""
        held = {
            name: [nn.Parameter(each, requires_grad=False) for each in value for _ in range(self.size // len(value))]
            for name, value in self.held.items()
        }
        engine.mount({**self.values, **self.held_values()}, {**self.views, **held})

    def held_values(self) -> dict[str, Tensor]:
        """Frozen parameters that differ between runs, of all members: name -> `(M, *shape)`."""
        return {name: value.repeat_interleave(self.size // len(value), 0) for name, value in self.held.items()}

    def choose(self, engine: Literal["loop", "stacked"], at_a_time: int | None = None) -> None:
        """Compute the members with another engine from now on."""
        if self._engine is not self._loop:
            self._engine.unmount()
        self.engine_name, self.at_a_time, self._many = engine, at_a_time, None
        self._engine = self._loop
        self.install(self.values, self.streams, range(self.size))

    def leave(self) -> None:
        """Compute with a copy of the plain module from now on; the one so far is left with member 0 in plain layers."""
        self._show(0)
        left, slots = self.model, self.slots
        self.model = deepcopy(left)
        self.slots = trainable_slots(self.model)
        for name, places in slots.items():
            parameter = nn.Parameter(self.values[name][0].detach().clone())
            for module, key in places:
                module._parameters[key] = parameter
        deactivate(left)
        self._places = {**self.slots, **slots_of(self.model, self.held)}
        self._bind = self.unequal.bound(self.model)
        self._loop = self._engine = Loop(self.model, self._places)
        self._many = None
        self.install(self.values, self.streams, range(self.size))

    @contextmanager
    def alone(self, member: int) -> Iterator[nn.Module]:
        """Inside, the plain module with this member in it."""
        self._show(member)
        try:
            yield self.model
        finally:
            self._show(0)
            if self._engine is not self._loop:
                self._mount(self._engine)

    @contextmanager
    def computing(self, member: int) -> Iterator[nn.Module]:
        """Inside, whoever calls the plain module computes this member, as a part of a step or of a prediction.

        Raises:
            RuntimeError: members are stacked.
        """
        if self._engine is not self._loop:
            raise RuntimeError("members are stacked: one cannot be computed alone")
        self.focus(range(member, member + 1))
        self.focus_rows(0)
        self.lengths, self.padding_side = None, "right"
        self._alone = member
        try:
            yield self.model
        finally:
            self._alone = None
            self._show(0)

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Inside, dropout draws from the stream of the member that is computed alone, if there is one, in training."""
        if self._alone is None or not self.training:
            yield
            return
        with self._cast_once, MemberDropout(Streams(self.streams[self._alone : self._alone + 1])):
            yield

    def _show(self, member: int) -> None:
        """Put the plain layers back, with this member in them."""
        if self._engine is not self._loop:
            self._engine.unmount()
        self._loop.focus(range(member, member + 1), 0)
        self._bind([self.run_of(member)], alone=True)

    def member(self, member: int) -> dict[str, Tensor]:
        """The tensors of one member under the plain model's names, `(*shape)`; embeddings whole.

        The trainable ones, and frozen ones that differ between runs.
        """
        return self.full({name: value[member] for name, value in (self.values | self.held_values()).items()})

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
    def mostly_frozen(self) -> bool:
        """Whether all members hold less than the model that they share."""
        shared = sum(value.nbytes for value in self.model.parameters() if not value.requires_grad)
        return sum(value.nbytes for value in self.values.values()) < shared

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
        self._bind([self.run_of(member) for member in self._focus], alone=False)

    def fold(self, inputs: Mapping[str, Any], groups: int = 1) -> dict[str, Any]:
        """Inputs for the members in focus.

        Args:
            inputs: `(groups*B, ...)`.
            groups: 1: the same rows for all; R: each run has its own rows; M: each member has.
        """
        return fold_rows(inputs, [member * groups // self.size for member in self._focus], groups)

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
        chunk = self._focus
        rows = next(len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim())
        self.focus_rows(rows // len(chunk))
        streams = Streams(self.streams[chunk.start : chunk.stop])
        if not self.training:
            return self.predict(self.model, inputs, streams, self.focus_rows)
        self.lengths, self.padding_side = None, padding_side
        if lengths:
            self.lengths = [lengths[member * len(lengths) // self.size] for member in chunk]
            if self.measured is None:
                self.measured = measure(self.model, inputs)
            streams.padding = Padding(self.lengths, max(lengths), padding_side, self.measured.axes)
        with self._cast_once:
            return self.compute(self.model, inputs, streams, self.focus_rows)

    def further_masks(self, dropped: Tensor, count: int) -> MemberDropout:
        """Inside, in the middle of a training pass, dropout draws masks besides those that the model draws by itself.

        Args:
            dropped: what dropout sees, `(M*B, D)`, or `(M*B, T, D)` of the tokens of the inputs.
            count: how many times.
        """
        padding = None
        if self.lengths is not None and dropped.dim() > 2:
            padding = Padding(self.lengths, dropped.shape[1], self.padding_side, [(1,)] * count)
        return MemberDropout(Streams(self.streams[self._focus.start : self._focus.stop], padding))

    def train(self, mode: bool = True) -> PopulationModule:
        """Switch between training and evaluation; after a training frozen weights may change."""
        if not mode:
            self._cast_once.forget()
        return super().train(mode)

    def collect(self) -> None:
        """Bring the gradients of the last backward passes into the views."""
        self._engine.collect()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of every member."""
        self._engine.zero_grad()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PopulationModule:
        """Move or cast everything: the plain module first, then the members."""
        self._show(0)
        super()._apply(fn, recurse)
        values = {name: fn(value) for name, value in self.values.items()}
        self.kept = {key: {name: fn(value) for name, value in kept.items()} for key, kept in self.kept.items()}
        self.held = {name: fn(value) for name, value in self.held.items()}
        self.install(values, self.streams, range(self.size))
        return self

    # ---- activation checkpointing ----------------------------------------------------------------------------------

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Recompute activations in the backward pass, with the masks of the forward pass."""
        with self._without_new_hooks():
            hugging_face(self.model).gradient_checkpointing_enable(self._checkpointing(gradient_checkpointing_kwargs))

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """The same under its name in transformers 5."""
        with self._without_new_hooks():
            hugging_face(self.model).activation_checkpointing_enable(
                self._checkpointing(activation_checkpointing_kwargs), **options
            )

    @contextmanager
    def _without_new_hooks(self) -> Iterator[None]:
        """Reentrant checkpointing needs a hook that makes embeddings require gradients; ours does not."""
        before = {module: set(module._forward_hooks) for module in self.model.modules()}
        yield
        for module, known in before.items():
            for key in set(module._forward_hooks) - known:
                del module._forward_hooks[key]

    def _checkpointing(self, kwargs: dict[str, Any] | None) -> dict[str, Any]:
        if (kwargs or {}).get("use_reentrant"):
            raise SettingError("reentrant checkpointing would draw other dropout masks: use_reentrant=False")
        if hasattr(self.model, "adapters_config"):
            raise SettingError("adapters recomputes with other dropout masks: switch gradient_checkpointing off")
        return {**(kwargs or {}), "use_reentrant": False, "context_fn": checkpoint_contexts}


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Inside, the module is in training mode, or in evaluation mode."""
    before = module.training
    module.train(training)
    try:
        yield
    finally:
        module.train(before)
