"""Several dropout masks in front of the output layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from deni.errors import SettingError
from deni.strategies.base import Outputs, Passes, Strategy
from deni.strategies.linear_probe import OutputLayer
from deni.strategies.mixout import Mixout

if TYPE_CHECKING:
    from torch import Tensor, nn

    from deni.population import Population


@dataclass(frozen=True)
class MultiDropout(Strategy, name="multi_dropout"):
    """Average the loss over several dropout masks in front of the output layer (multi-sample dropout, Inoue 2019).

    The encoder is computed once. The further masks come from the members' own streams of dropout.

    Args:
        dropout_samples: how many masks, at least 1; Inoue takes 8 in most experiments.
    """

    generates: ClassVar[bool] = False
    when: ClassVar[str] = "When the dropout in front of the output layer makes training noisy, at next to no cost."

    dropout_samples: int = 5

    def __post_init__(self) -> None:
        if self.dropout_samples < 1:
            raise SettingError(f"dropout_samples must be at least 1, not {self.dropout_samples}")

    def conflicts_with(self, other: Strategy) -> str:
        return "mixout of the output layer switches the dropout in front of it off" if isinstance(other, Mixout) else ""

    def start(self, population: Population, outputs: Outputs | None = None) -> None:
        if self.dropout_samples > 1:
            self._dropout(population)

    def losses(self, population: Population, passes: Passes) -> Tensor:
        if self.dropout_samples == 1:
            return super().losses(population, passes)
        import torch

        with self._sampling(population) as others:
            outputs = passes()
        samples = [outputs, *(with_logits(outputs, logits) for logits in others)]
        return torch.stack([passes.loss(each) for each in samples]).mean(0)

    def _dropout(self, population: Population) -> nn.Module:
        """The dropout in front of the output layer."""
        from torch import nn

        from deni.models.architectures import pooled_path

        OutputLayer.of(population, self.name)
        dropout = population.model.get_submodule(pooled_path(population.model))
        if not isinstance(dropout, nn.Dropout):
            raise SettingError(f"{self.name} needs dropout in front of the output layer, and this model has none")
        if not dropout.p:
            raise SettingError(f"{self.name} needs dropout in front of the output layer, and its rate is 0: raise it")
        return dropout

    @contextmanager
    def _sampling(self, population: Population) -> Iterator[list[Tensor]]:
        """Inside, a pass leaves here the outputs of the output layer under further masks, folded, one after another."""
        dropout, module = self._dropout(population), population.module
        layer = population.model.get_submodule(OutputLayer.of(population, self.name).weight.rpartition(".")[0])
        others: list[Tensor] = []
        seen: tuple[Tensor, Tensor] | None = None

        def dropped(_: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal seen
            seen = given[0], output  # RoBERTa's head calls it twice: the last time counts

        def sample(_: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
            if seen is None or seen[1] is not given[0]:
                raise SettingError(f"{self.name} needs dropout right in front of the output layer of this model")
            count = self.dropout_samples - 1
            with module.further_masks(seen[0], count):
                others.extend(layer.forward(dropout.forward(seen[0])) for _ in range(count))

        handles = [dropout.register_forward_hook(dropped), layer.register_forward_hook(sample)]
        try:
            yield others
        finally:
            for handle in handles:
                handle.remove()


def with_logits(outputs: Any, logits: Tensor) -> Any:
    """What a model returns, with other logits."""
    if isinstance(outputs, Mapping):
        name = "logits" if "logits" in outputs else next(iter(outputs))
        return type(outputs)(**{**outputs, name: logits.to(outputs[name])})
    if isinstance(outputs, tuple):
        return (logits.to(outputs[0]), *outputs[1:])
    return logits.to(outputs)
