"""The sequential engine, one member at a time in the plain module: the reference implementation."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from deni.engine.base import Slots, Views


class Loop:
    """Compute one member at a time by putting its parameters into the plain module.

    Args:
        model: the plain module.
        slots: where the parameters sit that differ between members.
    """

    def __init__(self, model: nn.Module, slots: Slots) -> None:
        self.slots = slots
        self.views: Views = {}
        self.chunks: tuple[range, ...] = ()

    def mount(self, values: Mapping[str, Tensor], views: Views) -> None:
        """Point the model at these members."""
        self.views = views
        members = len(next(iter(views.values())))
        self.chunks = tuple(range(member, member + 1) for member in range(members))
        self.focus(self.chunks[0], 0)

    def focus(self, chunk: range, batch: int) -> None:
        """Put the parameters of one member into the module."""
        for name, places in self.slots.items():
            for module, key in places:
                module._parameters[key] = self.views[name][chunk.start]

    def collect(self) -> None:
        """Nothing: the views are what the module computes with."""

    def zero_grad(self) -> None:
        """Forget the gradients of every member."""
        for views in self.views.values():
            for view in views:
                view.grad = None

    def unmount(self) -> None:
        """Leave the first member in the module."""
        if self.views:
            self.focus(range(1), 0)
