"""Dropout that draws from a stream for each member, so that a member's masks are independent of batch composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deni.engine.fold import FoldError
from deni.models.products import attention_as_now, attention_weights, in_groups

if TYPE_CHECKING:
    from deni.engine.unpadded import Layout

_MOST = 32767  # of the int16 that is drawn: always kept
_LEVELS = 65536  # a keep decision takes 16 random bits: five times faster than `bernoulli_` on a CPU


class Rates(float):
    """The probabilities of one call of dropout, where the members of the fold have their own.

    Args:
        each: of each member; one with 0 draws nothing.
        most: of all members there are, in the fold or not, which is its value.
    """

    each: tuple[float, ...]

    def __new__(cls, each: Sequence[float], most: float) -> Rates:
        made = super().__new__(cls, most)
        made.each = tuple(each)
        return made


@dataclass(frozen=True)
class Padding:
    """How the runs of a pack are padded to a common T; their masks are drawn for their own.

    Args:
        lengths: T that the batch of each member of the fold would have alone.
        longest: the common T; no member of the fold needs to have it.
        side: `right` or `left`, where the padding is.
        axes: for each call of dropout in a pass, the axes that grow with T, see `deni.engine.token_axes`; None to take
            axes of the size T for them.
    """

    lengths: Sequence[int]
    longest: int
    side: str = "right"
    axes: Sequence[tuple[int, ...]] | None = None

    def resized(self, shape: torch.Size, call: int, length: int, wanted: int) -> torch.Size:
        """The shape of one member's tensor `(B, ...)`, if its batch were padded to `wanted` instead of `length`.

        Args:
            call: the number of the call of dropout in its pass.
        """
        if self.axes is None:
            return _with_length(shape, length, wanted)
        if call >= len(self.axes) or max(self.axes[call], default=0) >= len(shape):
            raise FoldError(f"dropout on {tuple(shape)}: not the calls that were seen before the first step")
        return torch.Size(size + wanted - length if at in self.axes[call] else size for at, size in enumerate(shape))

    def place(self, shape: torch.Size, alone: torch.Size) -> tuple[Tensor | slice, ...]:
        """Where the tensor of a member that is `alone` lies in its padded `shape`; virtual tokens are in front."""
        if self.side == "right":
            return tuple(map(slice, alone))
        if all(size in (less, self.longest) for size, less in zip(shape, alone, strict=True)):
            return tuple(slice(size - less, size) for size, less in zip(shape, alone, strict=True))
        places = []
        for axis, (size, less) in enumerate(zip(shape, alone, strict=True)):
            virtual = size - self.longest if size != less else 0
            index = torch.cat([torch.arange(virtual), torch.arange(size - less + virtual, size)])
            places.append(index.view(-1, *[1] * (len(shape) - 1 - axis)))
        return tuple(places)


@dataclass
class Part:
    """Which rows of the members' batches one of several passes computes; the first pass draws for all of them.

    Args:
        rows: places in each member's batch, `(M, B')`.
        batch: B, rows of each member in all passes together.
        longest: T of this pass.
        drawn: the bits of each call of dropout, `(M, B, ...)`, in the order of the calls; empty before the first pass.
    """

    rows: Tensor
    batch: int
    longest: int
    drawn: list[Tensor]
    calls: int = 0


@dataclass
class Streams:
    """Where the members of a fold draw their masks.

    Args:
        generators: one for each member of the fold.
        padding: of a pack; None where T is each member's own.
        part: of a batch that is computed in several passes, padded on the right.
        layout: of what is computed now, where that has no padding; the masks are those of the padded batch.
        calls: of dropout so far.
    """

    generators: Sequence[torch.Generator]
    padding: Padding | None = None
    part: Part | None = None
    layout: Layout | None = None
    calls: int = 0

    def keep(self, shape: torch.Size, p: float, dtype: torch.dtype = torch.float32) -> Tensor:
        """Which elements survive: 1 or 0 (with probability p) of `shape` (folded, `(M*B, ...)`)."""
        members = len(self.generators)
        if shape[0] % members:
            raise FoldError(f"dropout on {tuple(shape)}: dim 0 does not divide by {members} members")
        padded = shape if self.layout is None else self.layout.padded(shape)
        one_member = torch.Size([padded[0] // members, *padded[1:]])
        draws = [each > 0 for each in p.each] if isinstance(p, Rates) else [True] * members
        bits = self._draw(one_member, draws) if self.part is None else self._of_part(one_member, self.part, draws)
        self.calls += 1
        if self.layout is not None:
            bits = self.layout.pack(bits.reshape(padded)).view(members, -1)
        # One comparison for all members; straight to numbers, since booleans would need a slow conversion.
        keep = torch.empty(bits.shape, dtype=dtype, device=bits.device)
        threshold: Any = _threshold(p)
        if isinstance(p, Rates):
            thresholds = torch.tensor([min(_threshold(each), _MOST) for each in p.each], device=bits.device)
            threshold = thresholds.to(torch.int16).view(-1, *[1] * (bits.dim() - 1))
        torch.ge(bits, threshold, out=keep)
        return keep.view(shape)

    def _draw(self, shape: torch.Size, draws: Sequence[bool]) -> Tensor:
        """Random int16 of this shape per member: `(M, *shape)` or `(M, elements)`; padding is always kept.

        Args:
            draws: whether a member draws; one that does not keeps all.
        """
        padding = self.padding
        if all(draws) and (padding is None or all(length == padding.longest for length in padding.lengths)):
            return _bits(shape.numel(), *self.generators)[:, : shape.numel()]
        bits = torch.full((len(self.generators), *shape), _MOST, dtype=torch.int16, device=self.device)
        longest = padding.longest if padding else 0
        lengths = padding.lengths if padding else [longest] * len(draws)
        for member, (generator, length) in enumerate(zip(self.generators, lengths, strict=True)):
            if not draws[member]:
                continue
            if padding is None:
                bits[member] = _bits(shape.numel(), generator)[0, : shape.numel()].view(shape)
                continue
            alone = shape if length == padding.longest else padding.resized(shape, self.calls, padding.longest, length)
            own = _bits(alone.numel(), generator)[0, : alone.numel()].view(alone)
            bits[member][padding.place(shape, alone)] = own
        return bits

    def _of_part(self, shape: torch.Size, part: Part, draws: Sequence[bool]) -> Tensor:
        """The rows and tokens of this pass, of what the first pass draws for all: `(M, *shape)`."""
        assert self.padding is not None
        if part.calls == len(part.drawn):
            whole = torch.Size([part.batch, *shape[1:]])
            whole = self.padding.resized(whole, self.calls, part.longest, self.padding.longest)
            part.drawn.append(self._draw(whole, draws).view(-1, *whole))
        bits = part.drawn[part.calls]
        part.calls += 1
        if bits.dim() != len(shape) + 1 or any(
            size < less for size, less in zip(bits.shape[2:], shape[1:], strict=True)
        ):
            raise FoldError(f"dropout on {tuple(shape)} in one pass, on {tuple(bits.shape[1:])} in another")
        bits = bits[(slice(None), slice(None), *map(slice, shape[1:]))]
        return bits[torch.arange(len(bits), device=bits.device).unsqueeze(1), part.rows]

    @property
    def device(self) -> torch.device:
        """Where the masks are drawn."""
        return self.generators[0].device


def _with_length(shape: torch.Size, longest: int, length: int) -> torch.Size:
    """The shape of one member's tensor `(B, ...)` if its batch were padded to `length` instead of `longest`.

    Hidden states are `(B, T, D)`, attention weights `(B, heads, T, T)`; the last dim of the former is features.
    """
    places = range(2, 4) if len(shape) == 4 and shape[2] == shape[3] == longest else range(1, max(len(shape) - 1, 1))
    return torch.Size(length if at in places and size == longest else size for at, size in enumerate(shape))


def _bits(count: int, *generators: torch.Generator) -> Tensor:
    """Random int16, four from each draw: one row of at least `count` for each generator."""
    bits = torch.empty(len(generators), (count + 3) // 4, dtype=torch.int64, device=generators[0].device)
    for row, generator in zip(bits, generators, strict=True):
        row.random_(-(2**63), None, generator=generator)
    return bits.view(torch.int16)


def _threshold(p: float) -> int:
    """The int16 below which an element is dropped."""
    return round(p * _LEVELS) - _LEVELS // 2


class MemberDropout(TorchFunctionMode):
    """Inside, `F.dropout` and the dropout of scaled-dot-product attention draw from the members' streams.

    The probability is rounded to 1/65536; what survives is scaled by the exact inverse of what is kept.
    """

    entered: ClassVar[list[Streams]] = []  # the streams of the modes that are active, the innermost last

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self.streams = streams

    def __enter__(self) -> MemberDropout:
        self.entered.append(self.streams)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self.entered.pop()
        super().__exit__(*error)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return input
        return input * self._factor(input.shape, p, input.dtype)

    def _factor(self, shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
        """What to multiply by: 0 where an element is dropped, else 1 / (1 - p)."""
        if isinstance(p, Rates):
            kepts = [1 - round(each * _LEVELS) / _LEVELS for each in p.each]
            scales = torch.tensor(
                [1 / kept if kept else 0.0 for kept in kepts], dtype=dtype, device=self.streams.device
            )
            rows = self.streams.keep(shape, p, dtype).unflatten(0, (len(kepts), -1))
            return rows.mul_(scales.view(-1, *[1] * len(shape))).flatten(0, 1)
        kept = 1 - round(p * _LEVELS) / _LEVELS
        if not kept:  # the threshold would not fit into 16 bits
            return torch.zeros(shape, dtype=dtype, device=self.streams.device)
        return self.streams.keep(shape, p, dtype).div_(kept)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        layout, self.streams.layout = self.streams.layout, None
        if layout is not None:  # texts attend to themselves in the rows of the padded batch
            options = (layout.mask, dropout_p, is_causal, scale, enable_gqa)
            attended = layout.attend(lambda q, k, v: self._attention(q, k, v, *options), query, key, value)
            self.streams.layout = layout
            return attended
        if dropout_p == 0:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        if enable_gqa:
            key, value = in_groups(query, key, value)
        # The fused kernels take no mask of dropout, so the weights are made as in PyTorch's own math kernel.
        weights = attention_weights(query, key, attn_mask, is_causal, scale)  # (M*B, heads, T, T)
        return (weights * self._factor(weights.shape, dropout_p, weights.dtype)).to(value.dtype) @ value


def checkpoint_contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
    """The `context_fn` of activation checkpointing.

    The recomputation computes attention as the forward pass does, and draws its masks again.
    """
    attention = attention_as_now()
    if not MemberDropout.entered:
        return nullcontext(), attention
    current = MemberDropout.entered[-1]
    states, calls = [generator.get_state() for generator in current.generators], current.calls
    layout = current.layout

    @contextmanager
    def recompute() -> Any:
        later, later_calls = [generator.get_state() for generator in current.generators], current.calls
        later_layout = current.layout
        current.calls, current.layout = calls, layout
        for generator, state in zip(current.generators, states, strict=True):
            generator.set_state(state)
        try:
            with attention, MemberDropout(current):
                yield
        finally:
            current.calls, current.layout = later_calls, later_layout
            for generator, state in zip(current.generators, later, strict=True):
                generator.set_state(state)

    return nullcontext(), recompute()
