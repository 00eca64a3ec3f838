"""What an engine is: it points a model at some members and gets their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

Slots = Mapping[str, Sequence[tuple[nn.Module, str]]]  # name of a parameter -> its places (module, key)
Views = Mapping[str, Sequence[nn.Parameter]]  # name of a parameter -> one leaf for each member


class Engine(Protocol):
    """How members are computed.

    The values of the members are given as `(M, *shape)`, and as views of single members, which the optimizer sees.
    After a backward pass over every chunk, `collect` leaves the gradient of each member in its views. Some may be
    frozen: views without gradients.
    """

    chunks: tuple[range, ...]  # which members are computed together; a training step visits all of them

    def mount(self, values: Mapping[str, Tensor], views: Views) -> None:
        """Point the model at these members."""

    def focus(self, chunk: range, batch: int) -> None:
        """The next forward pass computes these members, on `batch` examples each."""

    def collect(self) -> None:
        """Bring the gradients into the views."""

    def zero_grad(self) -> None:
        """Forget the gradients of every member."""

    def unmount(self) -> None:
        """Leave the model as it was found, with the first member's values."""
