"""A forward pass in place of that of a model's class."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


class OwnForward:
    """What is set as `model.forward`; its subclasses compute.

    Args:
        model: whose arguments it takes.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the model's class, which says which inputs it knows."""
        signature = inspect.signature(type(self.model).forward)
        return signature.replace(parameters=list(signature.parameters.values())[1:])
