"""The perturbation: how much noise a tensor gets, and how it is drawn and added."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from deni.errors import SettingError
from deni.settings import LARGEST, check_choices

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Scale = Literal["scaled", "uniform"]
Scope = Literal["auto", "head", "trainable"]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Normal noise on weights: theta' = theta + sqrt(v) * s * eps with eps ~ N(0, 1) (arXiv 2406.12471).

    Args:
        variance: variance v of the noise, from 0 to 1e30; 0.15 in the paper.
        scale: scale s of the noise: `scaled` by the tensor's standard deviation or `uniform`, which is 1.
        scope: which tensors get noise: the `head` (the last linear layer), all `trainable` ones, or `auto`: the head
            with full tuning, all that train with PEFT (the paper's choices) or in a model without linear layers.
        floor: smallest s of scaled noise, at least 0; tensors of equal values (a fresh LoRA B) have s = 0.
    """

    variance: float = 0.15
    scale: Scale = "scaled"
    scope: Scope = "auto"
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("variance", "floor"):
            if not 0 <= getattr(self, name) <= LARGEST:
                raise SettingError(f"the noise {name} must be from 0 to {LARGEST:g}, not {getattr(self, name)}")


NO_NOISE = Noise(variance=0.0)


def faded(noise: Noise, step: int) -> Noise:
    """The noise with variance v/step, as it is when `step` optimizer steps are done; before the first one v.

    >>> faded(Noise(variance=0.5), 5).variance
    0.1
    """
    return dataclasses.replace(noise, variance=noise.variance / max(step, 1))


def scale_of(tensor: Tensor, scale: Scale = "scaled", floor: float = 0.0) -> float:
    """s: the unit of the noise on a tensor.

    Args:
        tensor: any shape.
        scale: `scaled`: the standard deviation of the tensor's values, as in NoisyTune (Wu et al. 2022);
            `uniform`: 1.
        floor: the least s; tensors of one element or of equal values (a fresh LoRA B) have s = 0 without it.

    >>> import torch
    >>> scale_of(torch.tensor([1.0])), scale_of(torch.zeros(3), floor=0.02)
    (0.0, 0.02)
    """
    if scale == "uniform":
        return 1.0
    spread = float(tensor.detach().float().std()) if tensor.numel() > 1 else 0.0
    return max(spread, floor)


def add_(tensors: Iterable[Tensor], noise: Noise, generator: torch.Generator, opposite: Sequence[Tensor] = ()) -> None:
    """Add noise in place, see `Noise`; its scope is the caller's.

    Args:
        tensors: any shapes; each has its own s.
        noise: how much.
        generator: draws eps, tensor by tensor in the order given.
        opposite: as many tensors of the same values, which get minus the noise, or none.
    """
    import torch

    with torch.no_grad():
        for at, tensor in enumerate(tensors):
            eps = torch.randn(tensor.shape, generator=generator, device=generator.device, dtype=tensor.dtype)
            size = noise.variance**0.5 * scale_of(tensor, noise.scale, noise.floor)
            size = (
                size if size <= LARGEST else math.inf
            )  # beyond float32 `add_` raises; a diverged run ends in one line
            tensor.add_(eps.to(tensor.device), alpha=size)
            if opposite:
                opposite[at].add_(eps.to(tensor.device), alpha=-size)


def shake_(tensors: Iterable[Tensor], intensity: float, generator: torch.Generator) -> None:
    """theta' = theta + (u - 0.5) * intensity * s with u ~ U(0, 1), in place: NoisyTune (Wu et al. 2022).

    Args:
        tensors: any shapes; each has its own s, its standard deviation.
        generator: draws u, tensor by tensor in the order given.
    """
    import torch

    with torch.no_grad():
        for tensor in tensors:
            u = torch.rand(tensor.shape, generator=generator, device=generator.device, dtype=tensor.dtype)
            tensor.add_((u - 0.5).to(tensor.device), alpha=intensity * scale_of(tensor))
