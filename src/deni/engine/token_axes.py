"""Which axes of the tensors that dropout sees are tokens: measured, for sizes may coincide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deni.engine.buffers import kept_buffers
from deni.engine.dropout import MemberDropout, Streams
from deni.randomness import generator, global_generators


@dataclass
class Recording(Streams):
    """Notes the shape of each call of dropout, and keeps all elements."""

    shapes: list[torch.Size] = field(default_factory=list)

    def keep(self, shape: torch.Size, p: float, dtype: torch.dtype = torch.float32) -> Tensor:
        self.shapes.append(shape)
        return torch.ones(shape, dtype=dtype, device=self.device)


@dataclass(frozen=True)
class Measured:
    """What a forward pass in training shows.

    Args:
        axes: for each call of dropout, the axes that grow with T; None where that cannot be told.
        draws: whether it draws from the global generators, beyond the dropout that members have streams for.
    """

    axes: Sequence[tuple[int, ...]] | None
    draws: bool


@torch.no_grad()
def measure(model: nn.Module, inputs: Mapping[str, Any]) -> Measured:
    """Compute a batch at two lengths; parameters, buffers and the global generators stay as they were.

    Args:
        model: in training mode.
        inputs: without labels, `(B, T)`.
    """
    tokens = _tokens(inputs)
    other = tokens - 1 if tokens > 3 else tokens + 1  # one more could be over the model's limit
    try:
        with kept_buffers(model):
            first, draws = _shapes(model, inputs)
            second = _shapes(model, _with_tokens(inputs, tokens, other))[0] if tokens else []
    except Exception:  # whatever the model's code makes of another length
        return Measured(None, draws=False)
    if [len(shape) for shape in first] != [len(shape) for shape in second]:
        return Measured(None, draws)
    return Measured([_growing(*shapes) for shapes in zip(first, second, strict=True)], draws)


def _growing(first: torch.Size, second: torch.Size) -> tuple[int, ...]:
    return tuple(axis for axis in range(1, len(first)) if first[axis] != second[axis])


def _tokens(inputs: Mapping[str, Any]) -> int:
    if isinstance(ids := inputs.get("input_ids"), Tensor):
        return ids.shape[1]
    return max(
        (value.shape[1] for value in inputs.values() if isinstance(value, Tensor) and value.dim() > 1), default=0
    )


def _with_tokens(inputs: Mapping[str, Any], tokens: int, wanted: int) -> dict[str, Any]:
    def change(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[1] != tokens:
            return value
        return value[:, :wanted] if wanted < tokens else torch.cat([value, value[:, -1:]], 1)

    return {key: change(value) for key, value in inputs.items()}


def _shapes(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[list[torch.Size], bool]:
    """The shapes that dropout sees, and whether something else was drawn."""
    device = next(model.parameters()).device
    recording = Recording([generator(0, device)])
    with global_generators():
        before = _states(device)
        with MemberDropout(recording):
            model(**inputs)
        drawn = any(not torch.equal(*states) for states in zip(before, _states(device), strict=True))
    return recording.shapes, drawn


def _states(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
