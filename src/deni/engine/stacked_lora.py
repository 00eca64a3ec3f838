"""The stacked counterpart of LoRA in the package `adapters`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deni.engine.fold import Fold
from deni.engine.layers import Twin


class StackedLora(Twin):
    """`LoRA` of `adapters`: with its own factors, next to a gate and a dropout that are layers."""

    def __init__(self, original: nn.Module, stacked: frozenset[str], fold: Fold, name: str) -> None:
        super().__init__(original, stacked, fold, name)
        # The same dictionary: the engine swaps the gate in it.
        self._modules = original._modules

    def forward(self, hidden: Tensor | None, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        rows = inputs if hidden is None else hidden
        h = self.fold.unfold(self.lora_dropout(rows), self.name).flatten(1, -2)  # (M, B*T, D)
        h = torch.bmm(torch.bmm(h, self.lora_A.transpose(1, 2)), self.lora_B.transpose(1, 2))  # (M, B*T, out)
        out = h.view(*rows.shape[:-1], h.shape[-1])  # (M*B, T, out)
        gate = torch.sigmoid(self.gate(inputs)).mean(1).unsqueeze(-1)  # (M*B, 1, 1)
        return out * gate, gate
