"""Mixout: weights that are replaced by what they were at the start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from deni.errors import SettingError
from deni.settings import check_choices
from deni.strategies.base import Outputs, Strategy

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from deni.population import Population


@dataclass(frozen=True)
class Mixout(Strategy, name="mixout", paper_row=10):
    """Each weight is replaced by its initial value with probability p, in training (Lee et al. 2020).

    A step computes with W' = t + keep * (W - t) / (1 - p), where t is the weight at the start of training and keep is
    1 with probability 1 - p, else 0; the gradient of W is that of W' times keep / (1 - p). Dropout in front of mixed
    layers is off. Masks come from the members' own streams of dropout, one for each optimizer step.

    Args:
        mixout: probability p of replacing a weight, in [0, 1); 0.9 in the paper (arXiv 2406.12471).
        mixout_layers: which layers are mixed: `head`: the output layer, whose target is its random initialization, as
            in the paper; `linear`: all linear layers that train, with the pre-trained weights as target and all dropout
            off, as in Lee et al.
    """

    generates: ClassVar[bool] = False
    by_rank: ClassVar[bool] = False
    when: ClassVar[str] = "When fine-tuning should stay close to the initial weights, at the cost of one model."

    mixout: float = 0.9
    mixout_layers: Literal["head", "linear"] = "head"

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 <= self.mixout < 1:
            raise SettingError(f"mixout must be in [0, 1), not {self.mixout}")

    def prepare_model(self, model: nn.Module) -> nn.Module:
        from torch import nn

        from deni.models.architectures import pooled_path

        if not self.mixout:
            return model
        chosen = [model.get_submodule(pooled_path(model))] if self.mixout_layers == "head" else list(model.modules())
        for module in chosen:
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for key, value in vars(module).items():
                if isinstance(value, float) and "dropout" in key:  # ModernBERT's attention has a number only
                    setattr(module, key, 0.0)
        return model

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        if self.mixout:
            population.kept[self.name] = {
                name: population.values[name].detach().clone() for name in self._names(population)
            }

    def _names(self, population: Population) -> list[str]:
        """The weights of the mixed layers."""
        linear = population.linear_weights()
        return [name for name in linear if self.mixout_layers == "linear" or name in population.scope("head")]

    @contextmanager
    def training(self, population: Population, step: int, steps: int) -> Iterator[None]:
        import torch

        kept = population.kept.get(self.name, {})
        targets = {name: kept[name] for name in population.slots if name in kept}  # a checkpoint has its own order
        own = {name: population.values[name].detach().clone() for name in targets}
        keep: dict[str, Tensor] = {}
        try:
            with torch.no_grad():
                for name, target in targets.items():
                    keep[name] = torch.stack([self._keep(target[0], stream) for stream in population.streams])
                    start = target.repeat_interleave(population.members, 0)
                    population.values[name].copy_(start + keep[name] * (own[name] - start))
            yield
            with torch.no_grad():
                for name, factors in keep.items():
                    for view, factor in zip(population.views[name], factors, strict=True):
                        if view.grad is not None:
                            view.grad.mul_(factor)
        finally:
            population.take(own)

    def _keep(self, weight: Tensor, stream: torch.Generator) -> Tensor:
        """1/(1-p) with probability 1-p, else 0, in the shape of a weight."""
        import torch

        kept = torch.rand(weight.shape, generator=stream, device=stream.device) >= self.mixout
        return kept.to(weight) / (1 - self.mixout)
