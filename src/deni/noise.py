"""The perturbation: which scale the noise has on a tensor, and how it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

Scale = Literal["scaled", "uniform"]


def scale_of(tensor: Tensor, scale: Scale = "scaled", floor: float = 0.0) -> float:
    """s: what the noise on a tensor is measured in.

    Args:
        tensor: any shape.
        scale: `scaled`: the standard deviation of the tensor's values, as in NoisyTune (Wu et al. 2022);
            `uniform`: 1.
        floor: the least s; tensors of one element or of equal values (a fresh LoRA B) have none of their own.

    >>> scale_of(torch.tensor([1.0])), scale_of(torch.zeros(3), floor=0.02)
    (0.0, 0.02)
    """
    if scale == "uniform":
        return 1.0
    if scale != "scaled":
        raise ValueError(f"unknown noise scale {scale!r}: choose scaled or uniform")
    spread = float(tensor.detach().float().std()) if tensor.numel() > 1 else 0.0
    return max(spread, floor)


@torch.no_grad()
def add_(
    tensors: Iterable[Tensor],
    variance: float,
    generator: torch.Generator,
    scale: Scale = "scaled",
    floor: float = 0.0,
    opposite: Sequence[Tensor] = (),
) -> None:
    """theta' = theta + sqrt(v) * s * eps with eps ~ N(0, 1), in place (arXiv 2406.12471).

    Args:
        tensors: any shapes; each has its own s.
        variance: v, at least 0.
        generator: draws eps, tensor by tensor in the order given.
        opposite: as many tensors of the same values, which get minus the noise, or none.
    """
    if variance < 0:
        raise ValueError(f"the noise variance must be at least 0, not {variance}")
    for at, tensor in enumerate(tensors):
        eps = torch.randn(tensor.shape, generator=generator, device=generator.device, dtype=tensor.dtype)
        size = variance**0.5 * scale_of(tensor, scale, floor)
        tensor.add_(eps.to(tensor.device), alpha=size)
        if opposite:
            opposite[at].add_(eps.to(tensor.device), alpha=-size)


@torch.no_grad()
def shake_(tensors: Iterable[Tensor], intensity: float, generator: torch.Generator) -> None:
    """theta' = theta + (u - 0.5) * intensity * s with u ~ U(0, 1), in place: NoisyTune (Wu et al. 2022).

    Args:
        tensors: any shapes; each has its own s, its standard deviation.
        generator: draws u, tensor by tensor in the order given.
    """
    for tensor in tensors:
        u = torch.rand(tensor.shape, generator=generator, device=generator.device, dtype=tensor.dtype)
        tensor.add_((u - 0.5).to(tensor.device), alpha=intensity * scale_of(tensor))
