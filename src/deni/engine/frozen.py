"""Frozen weights under autocast: cast once, not in every pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_PRODUCTS = (F.linear, torch.addmm)


class CastOnce(TorchFunctionMode):
    """Inside, products under autocast find frozen weights in the lower type already, with the same numbers to the bit.

    Autocast keeps what it cast for the rest of a pass, but only of weights that train: the frozen ones, nearly all
    where an adapter is tuned, it casts wherever they are used, a fifth of a step of MiniLM with LoRA on a CPU.
    Memory: 2 bytes for each frozen weight of a product, which a step holds for its backward pass in any case.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[int, tuple[Tensor, int, Tensor]] = {}  # id of a weight -> itself, its version, its cast

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in _PRODUCTS:
            args = tuple(map(self.cast, args))
            kwargs = {key: self.cast(value) for key, value in (kwargs or {}).items()}
        return func(*args, **(kwargs or {}))

    def cast(self, value: Any) -> Any:
        """A frozen weight in autocast's type; anything else as it is."""
        if not isinstance(value, nn.Parameter) or value.requires_grad or value.dtype != torch.float32:
            return value
        on_cpu = value.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not on_cpu:  # on a GPU a cast costs nothing to speak of
            return value
        dtype = torch.get_autocast_dtype("cpu")
        weight, version, cast = self._kept.get(id(value), (None, 0, value))
        if weight is not value or version != value._version or cast.dtype != dtype:
            cast = value.detach().to(dtype)
            self._kept[id(value)] = value, value._version, cast
        return cast

    def forget(self) -> None:
        """Cast again when asked the next time: weights may be changed where no version tells it (`.data`)."""
        self._kept.clear()
