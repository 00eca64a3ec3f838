"""Whether a model may be stacked: the stack is compared with the loop before step 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deni.engine.base import Engine, Slots
from deni.engine.dropout import MemberDropout, Streams
from deni.engine.fold import fold_rows, slots_of, trainable_slots
from deni.engine.layers import Unstackable
from deni.engine.loop import Loop
from deni.engine.precision import as_float32, in_float32
from deni.engine.stacked import Stacked
from deni.noise import Noise, add_
from deni.randomness import generator, global_generators

MEMBERS, BATCH = 3, 5
# A layer that mixes rows by 2 % shows as 2e-4 or more, somewhere; rounding as 2e-6 in six layers of 384 features.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
FAULT = 0.02  # how far the outputs of a planted fault are mixed with those of other rows
SEEN = 0.25  # of what the fault changes may be rounding


def why_not_stacked(
    model: nn.Module, batch: Mapping[str, Any], padding: Mapping[str, int] | None = None, held: Collection[str] = ()
) -> str:
    """Why this model must be computed in the loop; empty where stacking is exact.

    Three distinct members are computed by both engines on a batch whose B and T avoid M, M*B and their divisors, in
    training mode with dropout, and outputs and gradients are compared, in float32 or more. A model that computes in
    half precision only is compared as it is, and stacked only if a planted fault, rows that are mixed by 2 %, would
    stand out from rounding. The model and the global generators stay as they were.

    Args:
        model: the plain module.
        batch: a collated batch of the training set, without labels.
        padding: fill values for inputs that are lengthened; 0 for those it does not name.
        held: the names of frozen parameters that differ between members, too.
    """
    with in_float32(model) as half:
        reason, failed = _of_some_length(model, batch, padding or {}, held)
    if half and failed:  # there may be kernels for half precision only, or too little memory
        reason, _ = _of_some_length(model, batch, padding or {}, held, FAULT)
    return reason


def _of_some_length(
    model: nn.Module, batch: Mapping[str, Any], padding: Mapping[str, int], held: Collection[str], fault: float = 0.0
) -> tuple[str, bool]:
    """`_compared` on a longer batch, or on a shorter one where the model has no positions for more tokens."""
    reason, failed = _compared(model, lambda: lengthened(batch, padding), held, fault)
    if failed:
        shorter, still = _compared(model, lambda: shortened(batch), held, fault)
        if not still:
            return shorter, False
    return reason, failed


def _compared(
    model: nn.Module, make_batch: Callable[[], dict[str, Any]], held: Collection[str], fault: float
) -> tuple[str, bool]:
    """Why not, in the type that the model has now, and whether that is an error in its code.

    Args:
        make_batch: gives a batch with `BATCH` rows.
        fault: of a third run, which the difference is measured with; 0 for none.
    """
    trained = trainable_slots(model)
    slots = {**trained, **slots_of(model, held)}
    training = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    original = {name: [module._parameters[key] for module, key in places] for name, places in slots.items()}
    engine: Engine | None = None
    try:
        inputs = make_batch()
        if not fault:
            inputs = {key: as_float32(value) for key, value in inputs.items()}
        values = _distinct(slots)
        results = []
        makes: list[tuple[Callable[[nn.Module, Slots], Engine], float]] = [(Loop, 0.0), (Stacked, 0.0)]
        for make, planted in [*makes, (Stacked, fault)] if fault else makes:
            engine = make(model, slots)
            model.train()
            views = {
                name: [nn.Parameter(each, requires_grad=name in trained) for each in value]
                for name, value in values.items()
            }
            engine.mount(values, views)
            with global_generators():
                results.append(_compute(model, engine, inputs, views, planted))
            engine.unmount()
            if any(not _same(buffers.get(name), buffer) for name, buffer in model.named_buffers()):
                return "a buffer of the model changes in a forward pass", False
        return difference(*results), False
    except Unstackable as refusal:
        return str(refusal), False
    except Exception as error:  # whatever the model's code makes of folded inputs
        return f"{type(error).__name__} on folded inputs: {str(error).splitlines()[0] if str(error) else ''}", True
    finally:
        if engine is not None:
            engine.unmount()
        for name, places in slots.items():
            for (module, key), parameter in zip(places, original[name], strict=True):
                module._parameters[key] = parameter
                parameter.grad = None  # type: ignore[union-attr]
        for name, buffer in model.named_buffers():
            if name in buffers and not _same(buffers[name], buffer):
                with torch.no_grad():
                    buffer.copy_(buffers[name])
        for module, was in training.items():
            module.training = was


def _same(before: Tensor | None, after: Tensor) -> bool:
    """Whether a buffer is as it was, NaN included."""
    if before is None or before.shape != after.shape:
        return False
    return torch.equal(before, after) or bool(torch.isclose(before, after, rtol=0, atol=0, equal_nan=True).all())


def lengthened(batch: Mapping[str, Any], padding: Mapping[str, int]) -> dict[str, Any]:
    """The batch with 5 rows and a prime number of tokens that is neither 3 nor 5 nor a multiple."""
    longest = longest_of(batch)
    more = next(t for t in range(max(longest, 7), 4 * longest + 30) if _is_prime(t)) - longest

    def shape(key: str, value: Tensor) -> Tensor:
        if value.dim() > 1 and value.shape[1] == longest:
            pads = [0, 0] * (value.dim() - 2) + [0, more]
            return nn.functional.pad(value, pads, value=padding.get(key, 0))
        return value

    return _five_rows({key: shape(key, value) for key, value in batch.items() if isinstance(value, Tensor)})


def shortened(batch: Mapping[str, Any]) -> dict[str, Any]:
    """As `lengthened`, with tokens cut off, at the side of the padding.

    Raises:
        Unstackable: there are fewer than 7 tokens.
    """
    longest = longest_of(batch)
    tokens = next((t for t in range(longest, 6, -1) if _is_prime(t)), 0)
    if not tokens:
        raise Unstackable("the first batch has too few tokens to compare members on")
    mask = batch.get("attention_mask")
    left = isinstance(mask, Tensor) and mask.dim() == 2 and bool((mask[:, 0] == 0).any())
    kept = slice(longest - tokens, None) if left else slice(tokens)

    def shape(value: Tensor) -> Tensor:
        return value[:, kept] if value.dim() > 1 and value.shape[1] == longest else value

    return _five_rows({key: shape(value) for key, value in batch.items() if isinstance(value, Tensor)})


def longest_of(batch: Mapping[str, Any]) -> int:
    """T of a batch; raises Unstackable where no input has tokens."""
    lengths = [value.shape[1] for value in batch.values() if isinstance(value, Tensor) and value.dim() > 1]
    if not lengths:
        raise Unstackable("the inputs have no token axis")
    return max(lengths)


def _is_prime(number: int) -> bool:
    return all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _five_rows(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        key: value[torch.arange(BATCH, device=value.device) % len(value)] for key, value in batch.items() if value.dim()
    }


def _distinct(slots: Slots) -> dict[str, Tensor]:
    draw = None
    values = {}
    for name, places in slots.items():
        module, key = places[0]
        parameter = module._parameters[key]
        assert parameter is not None
        draw = draw or generator(0, parameter.device)
        stack = parameter.detach().expand(MEMBERS, *parameter.shape).clone()
        for member in range(1, MEMBERS):
            add_([stack[member]], Noise(variance=0.04, floor=0.02), draw)
        values[name] = stack
    return values


def _compute(
    model: nn.Module,
    engine: Engine,
    inputs: dict[str, Any],
    views: Mapping[str, Sequence[nn.Parameter]],
    fault: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits `(M, B, ...)` and the gradients of each member, `(M, *shape)`; see `FAULT`."""
    device = next(iter(views.values()))[0].device
    views = {name: each for name, each in views.items() if each[0].requires_grad}
    streams = [generator(member, device) for member in range(MEMBERS)]
    logits = []
    for chunk in engine.chunks:
        engine.focus(chunk, BATCH)
        with MemberDropout(Streams(streams[chunk.start : chunk.stop])):
            output = model(**fold_rows(inputs, [0] * len(chunk)))
        out = output["logits"] if isinstance(output, dict) else output[0]
        out = out + fault * out.mean(0, keepdim=True) if fault else out
        rows = torch.arange(1, BATCH + 1, device=out.device, dtype=out.dtype).repeat(len(chunk))
        padded = nn.functional.pad(out.flatten(1), [0, 1])  # a constant: the softmax of one output has no gradient
        (padded.log_softmax(-1)[:, 0] * rows).sum().backward()
        logits.append(out.detach().unflatten(0, (len(chunk), BATCH)))
    engine.collect()
    gradients = {
        name: torch.stack([torch.zeros_like(view) if view.grad is None else view.grad for view in each])
        for name, each in views.items()
    }
    return torch.cat(logits), gradients


Result = tuple[Tensor, dict[str, Tensor]]  # what `_compute` gives


def difference(loop: Result, stack: Result, planted: Result | None = None) -> str:
    """In words; empty where there is none beyond rounding, which a planted fault must stand out from."""
    tolerance = TOLERANCE.get(loop[0].dtype, TOLERANCE[torch.float32])
    off = relative(loop[0], stack[0])
    if not off <= (SEEN * relative(loop[0], planted[0]) if planted else tolerance):
        return f"stacked outputs differ from the loop's by {off:.1e} of their size"
    # A gradient that is zero but for rounding (the keys' bias in attention) is compared with the others' size.
    least = 1e-2 * max((float(gradient.abs().max()) for gradient in loop[1].values()), default=0.0)
    for name, gradient in loop[1].items():
        off = relative(gradient, stack[1][name], least)
        if not off <= (SEEN * relative(gradient, planted[1][name], least) if planted else tolerance):
            return f"stacked gradients of {name} differ from the loop's by {off:.1e} of their size"
    return ""


def relative(a: Tensor, b: Tensor, least: float = 1e-12) -> float:
    """Largest difference in units of the largest value, or of `least` if that is more."""
    size = max(float(a.abs().max()), float(b.abs().max()), least)
    return float((a - b).abs().max()) / size
