"""Encoders without padding: the layers between embeddings and head compute the tokens of the texts only.

The rows of a batch are laid out anew where the encoder begins, `(M*B, T, D)` as `(M*B, T', D)`: the tokens of each
member's texts one after the other, in B rows that are as long as the texts are on average. Where it ends they are laid
out as before. Layers that treat each token by itself do not notice. Attention gets its rows back, and dropout draws for
all places, padding included: the masks are those of the padded batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deni.engine.buffers import kept_buffers
from deni.engine.dropout import MemberDropout, Streams
from deni.engine.fold import FoldError
from deni.engine.module import in_mode
from deni.engine.precision import as_float32, in_float32
from deni.engine.probe import difference, longest_of
from deni.models.pooling import encoder_of
from deni.randomness import generator, global_generators

WORTH = 0.9  # of the places, at most: to lay the tokens out anew costs 4 % of a step of MiniLM
ROWS, TOKENS = 4, 16  # of the batch that a model is tried on, at least, so that other texts do not decide otherwise
ENCODERS = ("encoder", "transformer")  # how models of transformers call the layers between embeddings and head


class _Select(torch.autograd.Function):
    """Rows by their places; the gradient of each is that of the one place where it went."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return grad.index_select(0, back), None, None


@dataclass(frozen=True)
class Layout:
    """Where the tokens of the texts of a batch lie without padding.

    A place that is left over holds padding, and the last one of each member always does. Nothing depends on what is
    computed there, so its gradient is zero, and padding can get it as its own.

    Args:
        rows: M*B.
        tokens: T.
        fewer: T'.
        source: for each place of `(M*B, T')` that of `(M*B, T)` which lies there.
        back: the reverse; of padding a place that is left over.
        mask: of attention, for the keys of `(M*B, T)`, `(M*B, 1, 1, T)`.
    """

    rows: int
    tokens: int
    fewer: int
    source: Tensor
    back: Tensor
    mask: Tensor

    @classmethod
    def of(cls, mask: Tensor, members: int) -> Layout | None:
        """That of a batch; None where there is too little padding.

        Args:
            mask: of attention, as scaled-dot-product attention takes it, `(M*B, 1, T, T)`; all queries have the same.
        """
        keys = mask[:, 0, -1]  # (M*B, T)
        rows, tokens = keys.shape
        real = (keys if keys.dtype == torch.bool else keys == 0).reshape(members, -1)  # (M, B*T)
        batch = rows // members
        fewer = int(real.sum(1).max()) // batch + 1
        if fewer > WORTH * tokens:
            return None
        member = torch.arange(members, device=mask.device).unsqueeze(1)
        order = real.byte().argsort(dim=1, descending=True, stable=True)[:, : batch * fewer]
        source = (order + member * batch * tokens).flatten()
        back = (member * batch * fewer + batch * fewer - 1).repeat(1, batch * tokens).flatten()
        back[source] = torch.arange(len(source), device=mask.device)
        return cls(rows, tokens, fewer, source, back, mask[:, :, -1:])

    def padded(self, shape: torch.Size) -> torch.Size:
        """The shape `(M*B, T, ...)` of what is `(M*B, T', ...)` here."""
        if tuple(shape[:2]) != (self.rows, self.fewer):
            raise FoldError(f"{tuple(shape)} where the texts of {self.rows} rows have {self.fewer} tokens on average")
        return torch.Size([self.rows, self.tokens, *shape[2:]])

    def pack(self, padded: Tensor) -> Tensor:
        """`(M*B, T, ...)` as `(M*B, T', ...)`."""
        flat = padded.reshape(self.rows * self.tokens, -1)
        return _Select.apply(flat, self.source, self.back).view(self.rows, self.fewer, *padded.shape[2:])

    def pad(self, packed: Tensor) -> Tensor:
        """`(M*B, T', ...)` as `(M*B, T, ...)`."""
        flat = packed.reshape(self.rows * self.fewer, -1)
        return _Select.apply(flat, self.back, self.source).view(self.rows, self.tokens, *packed.shape[2:])

    def attend(self, attention: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention within each text; all are `(M*B, heads, T', D)`."""
        heads = [self.pad(each.transpose(1, 2)).transpose(1, 2) for each in (query, key, value)]
        return self.pack(attention(*heads).transpose(1, 2)).transpose(1, 2)


# ---- on a model ----------------------------------------------------------------------------------------------------


def text_tokens(
    model: nn.Module, inputs: Mapping[str, Any], streams: Streams, focus: Callable[[int], None] | None = None
) -> Any:
    """Compute a batch without its padding; see `deni.engine.module.Compute`, for predictions as well."""
    encoder = layers_of(model)
    assert encoder is not None
    with MemberDropout(streams), _skipping(encoder, streams):
        return model(**inputs)


def has_hooks(model: nn.Module) -> bool:
    """Whether a hook would see what a module computes."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def layers_of(model: nn.Module) -> nn.Module | None:
    """The part of a model between embeddings and head; None for a model that has no such module."""
    base = encoder_of(model)
    return next((found for name in ENCODERS if isinstance(found := getattr(base, name, None), nn.Module)), None)


@contextmanager
def _skipping(encoder: nn.Module, streams: Streams) -> Iterator[list[Layout]]:
    """Inside, an encoder computes the tokens of the texts only, unless hooks of others would see them so.

    Args:
        streams: of the dropout that is entered.

    Yields:
        how they were laid out, for each pass of the encoder that left padding out.
    """
    used: list[Layout] = []
    if has_hooks(encoder):
        yield used
        return

    def begin(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        args, kwargs = _begin(streams, args, kwargs)
        used.extend([streams.layout] if streams.layout is not None else [])
        return args, kwargs

    hooks = [
        encoder.register_forward_pre_hook(begin, with_kwargs=True),
        encoder.register_forward_hook(lambda _, __, output: _end(streams, output)),
    ]
    try:
        yield used
    finally:
        streams.layout = None
        for hook in hooks:
            hook.remove()


def _begin(streams: Streams, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """What the encoder is called with, its states packed."""
    given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    masks = [each for each in given if each.dim() == 4]
    layout = Layout.of(masks[0], len(streams.generators)) if masks else None  # without a mask there is no padding
    if layout is None:
        return args, kwargs
    states = next(each for each in given if each.dim() == 3)
    streams.layout, packed = layout, layout.pack(states)

    def put(each: Any) -> Any:
        return packed if each is states else each

    return tuple(map(put, args)), {key: put(each) for key, each in kwargs.items()}


def _end(streams: Streams, output: Any) -> Any:
    """What the encoder returns, its states padded."""
    layout, streams.layout = streams.layout, None
    if layout is None:
        return output
    if isinstance(output, Tensor):
        return layout.pad(output)
    if isinstance(output, Mapping):
        return type(output)(**{**output, "last_hidden_state": layout.pad(output["last_hidden_state"])})
    return (layout.pad(output[0]), *output[1:])


# ---- whether it is exact -------------------------------------------------------------------------------------------


def skips_padding(
    model: nn.Module, batch: Mapping[str, Any], padding: Mapping[str, int], side: str
) -> tuple[bool, bool]:
    """Whether a model may be computed without its padding, and gains by it; whether that holds at padding, too.

    It is computed both ways in training mode, with the same dropout, in float32 or more; outputs and gradients are
    compared. A model of tokens has other outputs at padding, where there are no labels. On a GPU, where the tokens
    would have to be counted first, nothing is gained.

    Args:
        model: the plain module, which stays as it was.
        batch: a collated batch of the training set, without labels.
        padding: fill values of inputs that are padded; 0 for those it does not name.
        side: where they are padded, `right` or `left`.
    """
    encoder, mask = layers_of(model), batch.get("attention_mask")
    if encoder is None or has_hooks(encoder) or mask is None or mask.device.type != "cpu":
        return False, False
    try:
        with kept_buffers(model), in_mode(model, training=True), global_generators(), in_float32(model):
            rows = {key: as_float32(value) for key, value in padded_rows(batch, padding, side).items()}
            streams = [Streams([generator(0)]) for _ in range(2)]
            with MemberDropout(streams[0]):
                whole = _Result.of(model, model(**rows), rows["attention_mask"] != 0)
            with MemberDropout(streams[1]), _skipping(encoder, streams[1]) as used:
                packed = _Result.of(model, model(**rows), rows["attention_mask"] != 0)
    except Exception:  # whatever the model's code makes of tokens without padding
        return False, False
    if not used or whole.shapes != packed.shapes:
        return False, False
    exact = not difference((whole.real, whole.gradients), (packed.real, packed.gradients))
    return exact, exact and not difference((whole.logits, {}), (packed.logits, {}))


def padded_rows(batch: Mapping[str, Any], padding: Mapping[str, int], side: str) -> dict[str, Any]:
    """Rows of a batch, every second of which loses half its tokens to padding; short ones are repeated.

    Args:
        padding, side: as in `skips_padding`.
    """
    longest = longest_of(batch)
    times = -(-TOKENS // longest)
    half = times * longest // 2
    lost = slice(half, None) if side == "right" else slice(half)

    def cut(key: str, value: Tensor) -> Tensor:
        rows = value[torch.arange(ROWS) % len(value)]
        if value.dim() > 1 and value.shape[1] == longest:
            rows = torch.cat([rows] * times, 1)
            rows[1::2, lost] = padding.get(key, 0)
        return rows

    return {key: cut(key, value) for key, value in batch.items() if isinstance(value, Tensor) and value.dim()}


@dataclass(frozen=True)
class _Result:
    """What a pass gives.

    Args:
        logits: all of them; `real` those of tokens that are no padding, which are all where a text has one output.
        gradients: of what is trained.
        shapes: of all that the model returns.
    """

    logits: Tensor
    real: Tensor
    gradients: dict[str, Tensor]
    shapes: list[torch.Size]

    @classmethod
    def of(cls, model: nn.Module, output: Any, tokens: Tensor) -> _Result:
        """Of the output of a model; `tokens`: which are no padding, `(B, T)`."""
        logits = output["logits"] if isinstance(output, Mapping) else output[0]
        real = logits[tokens] if logits.dim() > 2 and logits.shape[:2] == tokens.shape else logits
        rows = torch.arange(1, len(real) + 1, dtype=real.dtype)
        chosen = F.pad(real.flatten(1), [0, 1]).log_softmax(-1)[:, 0]  # a constant: one output has a gradient, too
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        found = torch.autograd.grad((chosen * rows).sum(), list(trained.values()), allow_unused=True)
        gradients = {
            name: torch.zeros_like(each) if gradient is None else gradient
            for (name, each), gradient in zip(trained.items(), found, strict=True)
        }
        return cls(logits.detach(), real.detach(), gradients, list(_shapes(output)))


def _shapes(output: Any) -> Iterator[torch.Size]:
    if isinstance(output, Tensor):
        yield output.shape
    elif isinstance(output, Mapping):
        yield from _shapes(list(output.values()))
    elif isinstance(output, list | tuple):
        for each in output:
            yield from _shapes(each)
