"""Whether a population fits: its peak is estimated before the first step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from deni.engine.active_tokens import has_token_column
from deni.engine.dropout import MemberDropout, Streams
from deni.engine.module import in_mode
from deni.errors import SettingError
from deni.randomness import generator

logger = logging.getLogger(__name__)

STATES = 2  # tensors of optimizer state per parameter, as Adam has
# On a CPU a process holds more than tensors: the code and the kernels that computing loads, and holes between blocks of
# the sizes of other batches. Measured in benchmarks/memory.py.
KERNELS = 270 * 2**20
# What members may take there, where one pass for all of them saves little time: so many times what their runs would
# without a fork, or activations of this share of what all members hold.
TIMES, SHARE = 1.35, 1 / 4  # far below 2, for what the estimate is wrong by


@dataclass(frozen=True)
class Estimate:
    """Bytes that training needs.

    Args:
        parameters: trainable bytes of one member.
        activations: bytes that one member's forward pass keeps for the backward pass.
        frozen: bytes of the frozen model, which is there before the training.
        fixed: bytes that training takes whatever the members.
    """

    parameters: int
    activations: int
    frozen: int = 0
    fixed: int = 0

    def peak(self, members: int, at_a_time: int) -> int:
        """The peak of a phase, on top of the frozen model: values, gradients and states of all, activations at once."""
        return self.fixed + self.parameters * (2 + STATES) * members + self.activations * min(members, at_a_time)

    def resident(self) -> Estimate:
        """What a process holds of it on a CPU."""
        return replace(self, fixed=KERNELS)

    def fitting(self, members: int, available: int) -> int:
        """How many members fit side by side; 0 where not even one does."""
        fixed = self.peak(members, 0)
        return min(members, max(0, available - fixed) // max(self.activations, 1))

    def frugal(self, members: int, runs: int) -> int:
        """How many members to compute side by side, so that runs that fork take little more than such that do not.

        >>> mib = 2**20
        >>> Estimate(2 * mib, 60 * mib, frozen=87 * mib, fixed=270 * mib).frugal(10, runs=1)  # an adapter
        2
        >>> Estimate(42 * mib, 60 * mib, frozen=45 * mib, fixed=270 * mib).frugal(10, runs=1)  # all weights
        5
        """
        plain = self.frozen + self.peak(runs, runs)
        held = self.frozen + self.peak(members, 0)
        room = max(TIMES * plain - held, SHARE * held)
        passes = -(-members // max(1, min(members, int(room) // max(self.activations, 1))))
        return -(-members // passes)  # passes of about the same size


def estimate(
    model: nn.Module, inputs: Mapping[str, Any], longest: int, compute: Callable[..., Any] | None = None
) -> Estimate:
    """Measure what one member keeps on a batch, scaled to texts of `longest` tokens.

    Args:
        model: the plain module.
        inputs: one collated batch without labels, `(B, T)`.
        longest: the largest T in training.
        compute: what is computed of the model and the inputs, if not its forward pass; these have labels then.
    """
    parameters = {p.data_ptr(): p for p in model.parameters()}
    trainable = sum(p.nbytes for p in parameters.values() if p.requires_grad)
    frozen = sum(p.nbytes for p in parameters.values() if not p.requires_grad)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in parameters and storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a tensor that its own graph keeps is never freed: the collector does not see the graph

    # With the dropout of training: it keeps other tensors than PyTorch's (attention weights, unlike a fused kernel).
    dropout = MemberDropout(Streams([generator(0, next(model.parameters()).device)]))
    with torch.enable_grad(), dropout, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = (
            model(**inputs) if compute is None else compute(model, dict(inputs))
        )  # the output keeps every noted storage alive, so no address is counted twice
    tokens = max((v.shape[1] for v in inputs.values() if isinstance(v, Tensor) and v.dim() > 1), default=1)
    del output
    return Estimate(trainable, int(sum(kept.values()) * max(1.0, longest / max(tokens, 1))), frozen)


def at_a_time(
    model: nn.Module,
    inputs: Mapping[str, Any],
    longest: int,
    members: int,
    device: torch.device,
    side_by_side: bool,
    compute: Callable[..., Any] | None = None,
    passes: int = 1,
    runs: int = 1,
) -> int | None:
    """How many members one forward pass is to compute; None for all.

    On a CPU these are no more than keep a run to twice the memory of one that never forks, where that can be
    (`Estimate.frugal`); a member of LoRA takes half as much time again in passes of three as in one of ten. A GPU would
    wait for small passes, so there as many as fit are computed.

    Args:
        model, inputs, longest, compute: see `estimate`.
        members: how many there are in the largest phase.
        side_by_side: whether members are computed side by side; if not, one must fit.
        passes: how many forward passes a backward pass is for.
        runs: R; the members are theirs.

    Raises:
        SettingError: not even one fits.
    """
    with in_mode(model, training=True):
        need = estimate(model, inputs, longest, compute)
    need = replace(need, activations=need.activations * passes)
    if device.type == "cpu":
        need = need.resident()
    free = available(device)
    fits = need.fitting(members, free)
    if fits < 1:
        raise SettingError(
            f"{members} members need about {human(need.peak(members, 1))}, {human(free)} are free: "
            "use fewer members, LoRA, or a smaller batch"
        )
    if not side_by_side:
        return None
    frugal = need.frugal(members, runs) if device.type == "cpu" else members
    if frugal <= fits:
        return None if frugal == members else frugal
    logger.warning(
        f"{members} members side by side need about {human(need.peak(members, members))}, "
        f"{human(free)} are free: computing {fits} at a time"
    )
    return fits


def most_tokens(dataset: Any) -> int:
    """T of the longest text; 0 where the dataset has no column of token ids."""
    if not has_token_column(dataset):
        return 0
    return max(map(len, dataset["input_ids"]), default=0)


def available(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def human(size: float) -> str:
    """Bytes in readable units.

    >>> human(3 * 2**30)
    '3.0 GiB'
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
