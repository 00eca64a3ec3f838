"""What the optimizer sees: each member by itself, so that state, step count and rate are those of one model."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Adafactor

from deni.engine import quantized
from deni.engine.base import Views
from deni.errors import SettingError
from deni.schedule import Fork

logger = logging.getLogger(__name__)

COUNTERS = ("step", "mu_product", "eta", "mu")  # states of torch's optimizers that follow from the number of steps


class MemberOptimizer:
    """Keeps an optimizer pointed at the members of a population.

    Its parameter groups are those of the plain model, each with the parameters of all members, so that schedulers and
    callbacks see what they would see of one model. Copies that have another learning rate than their parent are in
    groups of their own while the optimizer steps, and at no other time.

    Args:
        optimizer: any `torch.optim` class, over the parameters of the plain model.
        names: id of a plain model's parameter -> its name.
        rates: what the learning rate of each run is multiplied with; none where all have the same.
    """

    def __init__(self, optimizer: Optimizer, names: Mapping[int, str], rates: Sequence[float] = ()) -> None:
        self.optimizer, self.rates = optimizer, tuple(rates)
        groups = list(optimizer.param_groups)
        unknown = [p for group in groups for p in group["params"] if id(p) not in names]
        if unknown:
            raise SettingError("the optimizer has parameters that are none of the model's trainable ones")
        self.names = [[names[id(p)] for p in group["params"]] for group in groups]
        # Not every scheduler notes them in the groups: ReduceLROnPlateau does not.
        self._base = [group.get("initial_lr", group["lr"]) for group in groups]
        self._overrides = quantized.Overrides(optimizer, names) if quantized.is_known(optimizer) else None
        self._names: dict[int, str] = {}
        self._rate_of: dict[int, float] = {}  # id of a leaf -> that of its run
        self._parents: list[list[nn.Parameter]] = []
        self._copies: list[list[nn.Parameter]] = []
        self._scheduled: list[Any] = []

    def point(self, views: Views, members: int, how: Fork | None = None) -> None:
        """Follow a fork or a merge: new members get state, members that are gone lose theirs.

        Args:
            views: name -> one leaf for each member, run-major; a member that stayed has the leaf it had.
            members: K, members of each run; the first of each run is the parent.
            how: after a fork, whether copies inherit their parents' state; None leaves new members without.
        """
        old = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        self._parents = [[view for name in names for view in views[name][::members]] for names in self.names]
        self._copies = [
            [view for name in names for m, view in enumerate(views[name]) if m % members] for names in self.names
        ]
        for group, parents, copies in zip(self.optimizer.param_groups, self._parents, self._copies, strict=True):
            group["params"] = parents + copies
        if how is not None and how.fork_optimizer == "inherit":
            self._inherit(views, members)
        alive = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        for parameter in [p for p in self.optimizer.state if id(p) in old - alive]:
            del self.optimizer.state[parameter]
        self._names = {id(view): name for name, each in views.items() for view in each}
        if self.rates:
            self._rate_of = {
                id(view): self.rates[member // members] for each in views.values() for member, view in enumerate(each)
            }

    def _inherit(self, views: Views, members: int) -> None:
        for each in views.values():
            for member, view in enumerate(each):
                parent = each[member - member % members]
                if view is not parent and parent in self.optimizer.state:
                    self.optimizer.state[view] = _copy(self.optimizer.state[parent])

    @torch.no_grad()
    def average(self, views: Views, members: int) -> None:
        """Before a merge: give each parent the mean of its members' states (what counts steps stays the parent's)."""
        state = self.optimizer.state
        for each in views.values():
            for parent in range(0, len(each), members):
                parent_state = state.get(each[parent], {})
                others = [state.get(view, {}) for view in each[parent + 1 : parent + members]]
                done = quantized.average(parent_state, others)
                for key, value in parent_state.items():
                    if key not in done and _is_averaged(key, value, each[parent]):
                        rest = [other.get(key, torch.zeros_like(value)) for other in others]
                        value.copy_(torch.stack([value, *rest]).mean(0))

    def check_average(self) -> None:
        """Raise where `average` does not know what the optimizer's states mean."""
        known = _of_torch(self.optimizer) or isinstance(self.optimizer, Adafactor)
        if not known and not quantized.is_known(self.optimizer):
            raise SettingError(
                f"merge_optimizer='mean' knows the optimizers of torch and bitsandbytes, and Adafactor, not "
                f"{type(self.optimizer).__name__}: use merge_optimizer='parent'"
            )

    def check(self) -> None:
        """Raise where a state does not fit its parameter; fused kernels do not check and would corrupt memory."""
        if not _of_torch(self.optimizer):
            return  # GaLore's states, for one, have other shapes
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
        bases = [group.get("initial_lr", base) for group, base in zip(groups, self._base, strict=True)]
        if constant is not None:
            for group, base in zip(groups, bases, strict=True):
                group["lr"] = base * constant
        if how.fork_rate != "schedule":
            left = 1 - done if how.fork_rate == "restart" else 1
            for group, base, parents, copies in zip(list(groups), bases, self._parents, self._copies, strict=True):
                if copies:
                    group["params"] = parents
                    groups.append({**group, "params": copies, "lr": base * left})
        if self.rates:
            self._set_rates_of_runs()
        if self._overrides is not None:
            self._overrides.before_step(self._names)

    def _set_rates_of_runs(self) -> None:
        """Split the groups where runs have their own learning rates, until the step is over."""
        groups = self.optimizer.param_groups
        for group in list(groups):
            parts: dict[float, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                parts.setdefault(self._rate_of[id(parameter)], []).append(parameter)
            base = group["lr"]
            for at, (rate, part) in enumerate(parts.items()):
                if at:
                    groups.append({**group, "params": part, "lr": base * rate})
                else:
                    group["params"], group["lr"] = part, base * rate

    def restore_rates(self) -> None:
        """After a step: the groups and rates that the scheduler knows, since some schedulers go on from them."""
        groups = self.optimizer.param_groups
        del groups[len(self.names) :]
        for group, rate, parents, copies in zip(groups, self._scheduled, self._parents, self._copies, strict=True):
            group["params"], group["lr"] = parents + copies, rate
        if self._overrides is not None:
            self._overrides.after_step()


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


def _of_torch(optimizer: Optimizer) -> bool:
    return any(cls.__module__.startswith("torch.optim.") for cls in type(optimizer).__mro__ if cls is not Optimizer)


def _is_averaged(key: str, value: Any, parameter: Tensor) -> bool:
    """Whether a state is a mean of gradients, not what counts steps, which is a number or a tensor without dimensions.

    A state need not have its parameter's shape: Adafactor's factors have not.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return key not in COUNTERS and (value.dim() > 0 or parameter.dim() == 0)


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state that shares nothing with this one, such as GaLore's projections."""
    return {key: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value) for key, value in state.items()}
