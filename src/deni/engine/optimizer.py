"""What the optimizer sees: each member by itself, so that state, step count and rate are those of one model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deni.engine.base import Views
from deni.errors import SettingError
from deni.schedule import Fork

logger = logging.getLogger(__name__)


class MemberOptimizer:
    """Keeps an optimizer pointed at the members of a population.

    Each parameter group gets a sister group for copies, so that these can have another learning rate; the number of
    groups never changes afterwards (schedulers count them).

    Args:
        optimizer: any `torch.optim` class, over the parameters of the plain model.
        names: id of a plain model's parameter -> its name.
        sisters: False where a scheduler already counts the groups; then copies share their parents' group.
    """

    def __init__(self, optimizer: Optimizer, names: Mapping[int, str], sisters: bool = True) -> None:
        self.optimizer = optimizer
        self.sisters = sisters
        groups = list(optimizer.param_groups)
        unknown = [p for group in groups for p in group["params"] if id(p) not in names]
        if unknown:
            raise SettingError("the optimizer has parameters that are none of the model's trainable ones")
        self.names = [[names[id(p)] for p in group["params"]] for group in groups]
        if sisters:
            for group in groups:
                optimizer.add_param_group({**{k: v for k, v in group.items() if k != "params"}, "params": []})
        self._scheduled: list[Any] = []

    def point(self, views: Views, members: int, how: Fork | None = None) -> None:
        """Follow a fork or a merge: new members get state, members that are gone lose theirs.

        Args:
            views: name -> one leaf for each member, run-major; a member that stayed has the leaf it had.
            members: K, members of each run; the first of each run is the parent.
            how: after a fork, whether copies inherit their parents' state; None leaves new members without.
        """
        old = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for at, names in enumerate(self.names):
            parents = [view for name in names for view in views[name][::members]]
            copies = [view for name in names for m, view in enumerate(views[name]) if m % members]
            groups = self.optimizer.param_groups
            groups[at]["params"] = parents if self.sisters else parents + copies
            if self.sisters:
                groups[at + len(self.names)]["params"] = copies
        if how is not None and how.fork_optimizer == "inherit":
            self._inherit(views, members)
        alive = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for parameter in [p for p in self.optimizer.state if id(p) in old - alive]:
            del self.optimizer.state[parameter]

    def _inherit(self, views: Views, members: int) -> None:
        for each in views.values():
            for member, view in enumerate(each):
                parent = each[member - member % members]
                if view is not parent and parent in self.optimizer.state:
                    self.optimizer.state[view] = _copy(self.optimizer.state[parent])

    @torch.no_grad()
    def average(self, views: Views, members: int) -> None:
        """Before a merge: give each parent the mean of its members' states (the step count stays the parent's)."""
        state = self.optimizer.state
        for each in views.values():
            for parent in range(0, len(each), members):
                parent_state = state.get(each[parent], {})
                others = [state.get(view, {}) for view in each[parent + 1 : parent + members]]
                for key, value in parent_state.items():
                    if isinstance(value, Tensor) and value.shape == each[parent].shape and key != "step":
                        rest = [other.get(key, torch.zeros_like(value)) for other in others]
                        value.copy_(torch.stack([value, *rest]).mean(0))

    def check(self) -> None:
        """Raise where a state does not fit its parameter; fused kernels do not check and would corrupt memory."""
        for parameter, state in self.optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"):
                if isinstance(value := state.get(key), Tensor) and value.shape != parameter.shape:
                    raise ValueError(f"optimizer state {key} is {tuple(value.shape)}, not {tuple(parameter.shape)}")

    def set_rates(self, how: Fork, done: float, constant: float | None = None) -> None:
        """Before a step: learning rates that are not the scheduler's.

        Args:
            how: the fork of the phase, for the copies.
            done: how much of the phase is over, from 0 to below 1.
            constant: a rate for all, as a part of the base rate.
        """
        groups = self.optimizer.param_groups
        self._scheduled = [group["lr"] for group in groups]
        if constant is not None:
            for group in groups:
                group["lr"] = group.get("initial_lr", group["lr"]) * constant
        if not self.sisters or how.fork_rate == "schedule":
            return
        for group in groups[len(self.names) :]:
            base = group.get("initial_lr", group["lr"])
            group["lr"] = base * (1 - done) if how.fork_rate == "restart" else base

    def restore_rates(self) -> None:
        """After a step: the rates that the scheduler set, since some schedulers go on from them."""
        for group, rate in zip(self.optimizer.param_groups, self._scheduled, strict=True):
            group["lr"] = rate


def clip_members(views: Views, max_norm: float) -> Tensor:
    """Clip each member's gradient by its own norm.

    Args:
        views: name -> one leaf for each member, with gradients (None for a member that is frozen).
        max_norm: largest L2 norm over all tensors of one member; infinite to measure only.

    Returns:
        the mean over members of the norms before clipping; a scalar.
    """
    norms = []
    for member in zip(*views.values(), strict=True):
        gradients: Sequence[nn.Parameter] = [view for view in member if view.grad is not None]
        if not gradients:
            continue
        if max_norm == float("inf"):
            grads = [view.grad for view in gradients if view.grad is not None]
            norms.append(torch.stack(torch._foreach_norm(grads)).norm())
        else:
            norms.append(nn.utils.clip_grad_norm_(gradients, max_norm))
    return torch.stack(norms).mean() if norms else torch.tensor(float("nan"))


def share_gradients(views: Views, processes: int) -> None:
    """Give each member the mean of its gradients over the processes of a training, at least 2.

    Args:
        views: name -> one leaf for each member; one without a gradient, which this process froze, stays without.
    """
    for each in views.values():
        # Zeros for a run that this process froze: all processes must send tensors of one shape.
        flat = torch.stack([torch.zeros_like(view) if view.grad is None else view.grad for view in each])
        torch.distributed.all_reduce(flat)
        for view, reduced in zip(each, flat / processes, strict=True):
            if view.grad is not None:
                view.grad.copy_(reduced)


def groups_by_rate(
    optimizer: Optimizer, model: nn.Module, rate_of: Callable[[str, Mapping[str, Any]], float]
) -> list[dict[str, Any]]:
    """The parameter groups, split where parameters have their own learning rates.

    Args:
        optimizer: over the parameters of the plain model.
        rate_of: what the rate of a parameter is multiplied with: called with its name, and those of all that train.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if parameter.requires_grad}
    of = dict.fromkeys(names.values())
    groups = []
    for group in optimizer.param_groups:
        parts: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            name = names.get(id(parameter))  # one that is none of the model's is refused later, with words
            parts.setdefault(rate_of(name, of) if name else 1.0, []).append(parameter)
        parts = parts or {1.0: []}  # an empty group stays: schedulers count them
        groups += [{**group, "params": part, "lr": group["lr"] * rate} for rate, part in parts.items()]
    return groups


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()}
