"""How members are folded into the batch, and what refuses to be folded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class FoldError(RuntimeError):
    """A tensor that is not folded `(M*B, ...)` where a stacked layer needs it: members could mix."""


@dataclass
class Fold:
    """How many members are folded into the batch that is computed now.

    Args:
        members: M of this forward pass.
        batch: B, examples of each member.
    """

    members: int = 1
    batch: int = 0

    def unfold(self, folded: Tensor, where: str) -> Tensor:
        """`(M*B, ...)` as `(M, B, ...)`; any other dim 0 is refused, also one that happens to divide by M."""
        if folded.dim() < 1 or folded.shape[0] != self.members * self.batch:
            raise FoldError(
                f"{where} got {tuple(folded.shape)}, not {self.members}*{self.batch} rows: it does not work row by row"
            )
        return folded.unflatten(0, (self.members, self.batch))


def fold_rows(inputs: Mapping[str, Any], groups: Sequence[int], of: int = 1) -> dict[str, Any]:
    """Give each member its rows, member by member.

    Args:
        inputs: tensors `(of*B, ...)`; anything else is returned as it is.
        groups: for each member the group of rows that it computes, below `of`.
        of: how many groups the rows come in: R for the batch of a pack, 1 where all members share the rows.

    >>> fold_rows({"x": torch.tensor([[1], [2]])}, groups=[0, 0])["x"].flatten()
    tensor([1, 2, 1, 2])
    """
    index = list(groups)

    def fold(rows: Tensor) -> Tensor:
        if of == 1 and len(index) == 1:
            return rows
        return rows.unflatten(0, (of, -1))[index].flatten(0, 1)

    return {
        key: fold(value) if isinstance(value, Tensor) and value.dim() > 0 else value for key, value in inputs.items()
    }


def trainable_slots(model: torch.nn.Module) -> dict[str, list[tuple[torch.nn.Module, str]]]:
    """Where each trainable parameter sits: name -> all (module, key); a tied parameter has several places."""
    return slots_of(model, {name for name, parameter in model.named_parameters() if parameter.requires_grad})


def slots_of(model: torch.nn.Module, chosen: Collection[str]) -> dict[str, list[tuple[torch.nn.Module, str]]]:
    """Where each of these parameters sits, see `trainable_slots`; in the model's order."""
    names = {id(parameter): name for name, parameter in model.named_parameters() if name in chosen}
    slots: dict[str, list[tuple[torch.nn.Module, str]]] = {name: [] for name in names.values()}
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in names:
                slots[names[id(parameter)]].append((module, key))
    return slots
