"""What strategies that fork have in common: how copies are made, merged and asked."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from deni.schedule import Fork
from deni.settings import check_choices
from deni.strategies.base import Strategy
from deni.tasks.voting import ONE, Combine, vote

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Forking(Strategy):
    """A strategy that forks one model into members.

    Args:
        members: how many members a fork makes, the parent among them; 10 in the paper.
        variance: v of the noise on the copies; 0.15 in the paper.
        scale: s of the noise: `scaled` by the tensor's standard deviation or `uniform`.
        scope: which tensors get noise: the `head`, all `trainable` ones, or `auto`: the head with full tuning, all
            that train with PEFT (the paper's choices).
        floor: the least s of scaled noise (a fresh LoRA B has none of its own).
        fork_optimizer: the optimiser state of a copy: `inherit` or `fresh`.
        fork_rate: the learning rate of a copy: `schedule`, `constant` or `restart`.
        merge_optimizer: the optimiser state after a merge: `parent` or `mean`.
        merge_lora: LoRA at a merge: mean of the `factors` or of their `product`.
        combine: how members vote: `soft`, `hard` (majority) or `parent`.
        shift: begin every phase so many steps earlier; the released code counts steps from 1 and so forks one early.
        antithetic: the copies' noises come in pairs of eps and -eps, so that with an odd number of members their mean
            at the fork is the parent; with an even one the last copy has noise of its own.
        member_order: the order in which members see the texts: one (`shared`), or for each copy its `own`.
    """

    members: int = 10
    variance: float = 0.15
    scale: Literal["scaled", "uniform"] = "scaled"
    scope: Literal["auto", "head", "trainable"] = "auto"
    floor: float = 0.0
    fork_optimizer: Literal["inherit", "fresh"] = "inherit"
    fork_rate: Literal["schedule", "constant", "restart"] = "schedule"
    merge_optimizer: Literal["parent", "mean"] = "parent"
    merge_lora: Literal["factors", "product"] = "factors"
    combine: Combine = "soft"
    shift: int = 0
    antithetic: bool = False
    member_order: Literal["shared", "own"] = "shared"

    of_forks: ClassVar[tuple[str, ...]] = ()  # further settings that decide nothing before the first fork

    presets: ClassVar = {
        "paper": {"combine": "hard"},
        "released": {"fork_optimizer": "fresh", "fork_rate": "constant", "combine": "parent", "shift": 1},
    }

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members must be at least 1, not {self.members}")
        if self.shift < 0:
            raise ValueError(f"shift must be at least 0, not {self.shift}")
        check_choices(self)
        self.noise(0)  # checks the rest

    def noise(self, step: int, fade: bool = False) -> Fork:
        """The fork before optimiser step `step`; `fade` divides the variance by the step, as interpolation does."""
        return Fork(
            variance=self.variance / max(step, 1) if fade else self.variance,
            scale=self.scale,
            scope=self.scope,
            floor=self.floor,
            optimizer=self.fork_optimizer,
            rate=self.fork_rate,
            merge_optimizer=self.merge_optimizer,
            merge_lora=self.merge_lora,
            antithetic=self.antithetic,
            order=self.member_order,
        )

    def before_fork(self) -> dict[str, Any]:
        """Without how it forks; a subclass that has settings for that names them in `of_forks`."""
        late = {field.name for field in dataclasses.fields(Forking)} | set(self.of_forks)
        return {name: value for name, value in self.settings().items() if name not in late}

    @property
    def noise_scope(self) -> str:
        return self.scope

    def combine_members(self, outputs: Tensor, problem: str = ONE) -> Tensor:
        return vote(outputs, self.combine, problem)


def part(fraction: float, steps: int) -> int:
    """A fraction of all steps in whole steps, halves rounded up.

    >>> part(0.3, 1250), part(0.3, 5)
    (375, 2)
    """
    return math.floor(fraction * steps + 0.5 + 1e-9)


def check_fraction(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= value <= 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a fraction of all steps, from 0 to 1, not {value}")
