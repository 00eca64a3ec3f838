"""Optimizer states of 8 bits, as bitsandbytes has them: which parameters have none, and how states are averaged."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

BLOCK = 256  # values that share a scale, in all of its blockwise optimizers


def is_known(optimizer: Optimizer) -> bool:
    """Whether it is an optimizer of bitsandbytes."""
    return any(cls.__module__.startswith("bitsandbytes.") for cls in type(optimizer).__mro__)


class Overrides:
    """The settings of single parameters, such as the 32 bits that Trainer gives to embeddings, for all members.

    bitsandbytes keeps them for all optimizers of a process, by the place of a parameter in its group, and, from 0.50,
    by its id. Both change with the members; so they are put there for a step, and nothing stays.

    Args:
        optimizer: one of bitsandbytes, over the plain model's parameters.
        names: id of such a parameter -> its name.
    """

    def __init__(self, optimizer: Optimizer, names: Mapping[int, str]) -> None:
        self.optimizer = optimizer
        self._manager: Any = optimizer.mng  # type: ignore[attr-defined]
        self._others: tuple[Any, Any] = ({}, {})
        self.settings = {names[key]: value for key, value in self._manager.pid2config.items() if key in names}
        for module, attribute, settings in self._manager.module_weight_config_triple:
            name = names.get(id(getattr(module, attribute, None)))
            if name is not None:
                self.settings[name] = settings

    def before_step(self, names: Mapping[int, str]) -> None:
        """Show them to the optimizer; `names` are those of the parameters that it has now, by id."""
        self._others = self._manager.index2config, self._manager.pid2config
        self._manager.pid2config = {}
        self._manager.index2config = {
            (group, at): self.settings[names[id(parameter)]]
            for group, parameters in enumerate(self.optimizer.param_groups)
            for at, parameter in enumerate(parameters["params"])
            if names[id(parameter)] in self.settings
        }

    def after_step(self) -> None:
        """Put back what was there."""
        self._manager.index2config, self._manager.pid2config = self._others


@torch.no_grad()
def average(state: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> set[str]:
    """Make the quantized states of a parameter the mean over members, quantized; one without a state counts as zero.

    Args:
        state: of the parent, changed in place.
        others: of its copies.

    Returns:
        the keys of what the quantized states consist of.
    """
    done: set[str] = set()
    for at in ("1", "2"):
        value = state.get(f"state{at}")
        if not isinstance(value, Tensor) or value.dtype != torch.uint8:
            continue
        functional = sys.modules["bitsandbytes.functional"]
        rows = [_values(each, at, functional) for each in (state, *others) if each]
        mean = torch.stack(rows).sum(0) / (1 + len(others))  # (rows, P)
        for row, part in enumerate(mean):
            quantized, how = functional.quantize_blockwise(part, code=state[f"qmap{at}"], blocksize=BLOCK)
            value.view(len(mean), -1)[row].copy_(quantized)
            state[f"absmax{at}"].view(len(mean), -1)[row].copy_(how.absmax)
        done |= {f"state{at}", f"qmap{at}", f"absmax{at}"}
    return done


def _values(state: Mapping[str, Any], at: str, functional: Any) -> Tensor:
    """The values of a state, `(rows, P)`: AdEMAMix keeps two in one, each with its own scales."""
    scales = state[f"absmax{at}"]
    rows = len(scales) if scales.dim() > 1 else 1
    return torch.stack(
        [
            functional.dequantize_blockwise(part, absmax=scale, code=state[f"qmap{at}"], blocksize=BLOCK)
            for part, scale in zip(state[f"state{at}"].view(rows, -1), scales.view(rows, -1), strict=True)
        ]
    )
