"""Length-bucketed micro-batches: a pack has the rows of many runs, and most of them are short.

Two names are for others: `gains`, whether a pack may be computed this way and gains by it, and `by_length`, which
computes a training batch so in place of `deni.engine.module.in_one_pass`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deni.engine.dropout import MemberDropout, Padding, Part, Streams
from deni.engine.module import PopulationModule, in_mode, in_one_pass
from deni.engine.precision import as_float32, in_float32
from deni.engine.probe import TOLERANCE, relative
from deni.engine.token_axes import measure
from deni.engine.unpadded import has_hooks
from deni.randomness import generator, global_generators

# What one more pass costs, in tokens: its Python and small operations, and for each member its gradients again.
# Measured with MiniLM and LoRA on a CPU: 17 % of a step of 20 runs are saved with it, 10 % with a third of it. In
# lower precision tokens are cheaper, and a pass is not.
PASS, PASS_OF_MEMBER = 100, 2
LOWER = 4


def by_length(model: nn.Module, inputs: Mapping[str, Any], streams: Streams, focus: Callable[[int], None]) -> Any:
    """Compute a training batch of a pack in as many passes as cost least; see `deni.engine.module.Compute`."""
    if streams.padding is not None and not has_hooks(model):  # a hook would see a part of the rows
        divided = divide(inputs["attention_mask"], len(streams.generators))
        if len(divided.parts) > 1:
            return compute(model, inputs, streams, divided, focus)
    return in_one_pass(model, inputs, streams)


def gains(module: PopulationModule, inputs: Mapping[str, Any], runs: int) -> bool:
    """Whether a pack may be computed in length-bucketed micro-batches, and gains by it.

    A GPU would wait for Python in small passes. In full tuning each pass makes the gradients of whole models:
    measured, it gains nothing. The members of one run gain 8 % on one thread and lose 7 % on four.

    Args:
        module: with the stacked engine.
        inputs: a packed batch, `(R*B, T)`, padded on the right, without labels.
        runs: R.
    """
    trained = sum(value.numel() for value in module.values.values()) / module.size
    with module.alone(0) as model:
        total = sum(parameter.numel() for parameter in model.parameters())
    if 2 * trained > total or next(iter(module.values.values())).device.type != "cpu":
        return False
    chunk = module.chunks[0]
    module.focus(chunk)
    with in_mode(module, training=True):
        return divides(module.model, module.fold(inputs, groups=runs), len(chunk), module.focus_rows)


def divides(model: nn.Module, batch: Mapping[str, Any], runs: int, focus: Callable[[int], None]) -> bool:
    """Whether length-bucketed micro-batches give what one batch gives.

    Not so where a model gives something for each token, mixes rows, or sees the padding.

    Args:
        model: with `runs` members side by side; a stack.
        batch: of a pack, `(R*B, T)`, padded on the right, without labels.
        focus: tells the engine how many rows of each member come.
    """
    mask = batch.get("attention_mask")
    tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
    if mask is None or len(tensors) < len(batch) or any(value.dim() > 2 for value in tensors.values()):
        return False
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        return False  # what is computed again would ask for masks again
    rows = len(mask) // runs
    divided = divide(mask, runs, price=0)

    def streams() -> list[torch.Generator]:
        return [generator(run, mask.device) for run in range(runs)]

    lengths = [mask.shape[1]] * runs
    try:
        with torch.no_grad(), global_generators(), in_float32(model):
            tensors = {key: as_float32(value) for key, value in tensors.items()}
            focus(rows)
            padding = Padding(lengths, mask.shape[1], axes=measure(model, tensors).axes)
            with MemberDropout(Streams(streams(), padding)):
                output = model(**tensors)
            whole = output["logits"] if isinstance(output, Mapping) else output[0]
            parts = compute(model, tensors, Streams(streams(), padding), divided, focus)["logits"]
    except Exception:  # whatever the model's code makes of a part of the rows
        return False
    return whole.dim() == 2 and relative(whole, parts) <= TOLERANCE.get(whole.dtype, TOLERANCE[torch.float32])


@dataclass(frozen=True)
class Passes:
    """How the rows of the members are divided.

    Args:
        order: the rows of each member from short to long, `(M, B)`.
        parts: places in that order, and T of the pass.
    """

    order: Tensor
    parts: Sequence[tuple[slice, int]]


def divide(mask: Tensor, members: int, price: float | None = None) -> Passes:
    """Choose the passes that cost least: those of a member's shortest rows, the next ones, and so on.

    Args:
        mask: the attention mask, folded `(M*B, T)`, padded on the right.
        price: of one more pass, in tokens; None for what was measured.
    """
    if price is None:
        price = (PASS + PASS_OF_MEMBER * members) * (LOWER if torch.is_autocast_enabled(mask.device.type) else 1)
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    tokens, order = ((mask != 0) * places).amax(1).unflatten(0, (members, -1)).sort(dim=1, stable=True)  # (M, B)
    longest = tokens.amax(0).clamp(min=1).tolist()
    best: list[tuple[float, int]] = [(0.0, 0)]  # of the first rows: cost, and where the last pass begins
    for end in range(1, len(longest) + 1):
        best.append(
            min((best[start][0] + longest[end - 1] * (end - start) * members + price, start) for start in range(end))
        )
    parts, end = [], len(longest)
    while end:
        start = best[end][1]
        parts.append((slice(start, end), longest[end - 1]))
        end = start
    return Passes(order, parts[::-1])


def compute(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    streams: Streams,
    passes: Passes,
    focus: Callable[[int], None],
) -> dict[str, Tensor]:
    """The logits of all rows, as one pass over the whole batch would give them, but for rounding.

    Args:
        inputs: folded, `(M*B)` or `(M*B, T)`.
        streams: of the dropout of each member, with the padding of the whole batch.
        focus: tells the engine how many rows of each member come.

    Returns:
        `logits`, folded `(M*B, C)`.
    """
    members, batch = passes.order.shape
    padding = streams.padding
    assert padding is not None
    member = torch.arange(members, device=passes.order.device).unsqueeze(1)
    drawn: list[Tensor] = []
    logits = []
    for which, longest in passes.parts:
        rows = passes.order[:, which]  # (M, B')
        part_inputs = {}
        for key, value in inputs.items():
            chosen = value.unflatten(0, (members, batch))[member, rows].flatten(0, 1)
            part_inputs[key] = chosen[:, :longest] if value.dim() == 2 and value.shape[1] == padding.longest else chosen
        focus(rows.shape[1])
        with MemberDropout(Streams(streams.generators, padding, Part(rows, batch, longest, drawn))):
            outputs: Any = model(**part_inputs)
        each = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        logits.append(each.unflatten(0, (members, -1)))
    back = passes.order.argsort(1)
    return {"logits": torch.cat(logits, 1)[member, back].flatten(0, 1)}
