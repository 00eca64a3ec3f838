"""Members folded into the batch: layers with trainable parameters are swapped for their stacked twins."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from deni.engine.base import Slots, Views
from deni.engine.fold import Fold
from deni.engine.layers import Twin, Unstackable, twin_of


class Stacked:
    """Compute members side by side: inputs are `(M*B, ...)`, what members share runs as one large layer.

    Args:
        model: the plain module.
        slots: where the parameters sit that differ between members.
        at_a_time: how many members one forward pass computes; None for all.

    Raises:
        Unstackable: a model that cannot be folded; the message says why.
    """

    def __init__(self, model: nn.Module, slots: Slots, at_a_time: int | None = None) -> None:
        refuse(model)
        self.model, self.slots, self.at_a_time = model, slots, at_a_time
        self.fold = Fold()
        self.chunks: tuple[range, ...] = ()
        self.views: Views = {}
        self._twins = self._make_twins()  # id of the original -> twin
        self._targets = {  # name of a parameter -> where its stack goes
            name: [(self._twins[id(module)], key) for module, key in map(self._owner, places)]
            for name, places in slots.items()
        }
        self._places = [
            (parent, key, child)
            for parent in model.modules()
            for key, child in parent._modules.items()
            if child is not None and id(child) in self._twins
        ]
        self._stacks: list[dict[str, nn.Parameter]] = []  # for each chunk: name -> (members of the chunk, *shape)
        self._mounted = False

    def _make_twins(self) -> dict[int, Twin]:
        names = {id(module): name for name, module in self.model.named_modules()}
        keys: dict[int, tuple[nn.Module, set[str]]] = {}
        for places in self.slots.values():
            for module, key in map(self._owner, places):
                keys.setdefault(id(module), (module, set()))[1].add(key)
        return {at: twin_of(module, frozenset(stacked), self.fold, names[at]) for at, (module, stacked) in keys.items()}

    def _owner(self, place: tuple[nn.Module, str]) -> tuple[nn.Module, str]:
        """The layer that computes with a parameter: a list or dictionary of parameters (IA3) is only a part of it."""
        module, key = place
        if not isinstance(module, nn.ParameterDict | nn.ParameterList):
            return place
        for parent in self.model.modules():
            for name, child in parent._modules.items():
                if child is module:
                    return parent, f"{name}.{key}"
        return place

    def mount(self, values: Mapping[str, Tensor], views: Views) -> None:
        """Point the model at these members."""
        self.unmount()
        members = len(next(iter(values.values())))
        size = self.at_a_time or members
        self.chunks = tuple(range(at, min(at + size, members)) for at in range(0, members, size))
        self.views = views
        self._stacks = [
            {
                name: nn.Parameter(value[chunk.start : chunk.stop], requires_grad=views[name][0].requires_grad)
                for name, value in values.items()
            }
            for chunk in self.chunks
        ]
        for parent, key, child in self._places:
            parent._modules[key] = self._twins[id(child)]
        for (_, _, child), twin in ((place, self._twins[id(place[2])]) for place in self._places):
            twin.train(child.training)
        self._mounted = True
        self.focus(self.chunks[0], 0)
        self._check()

    def _check(self) -> None:
        """Every trainable parameter of the stack has a leading M, or stacking is refused."""
        members = len(self.chunks[0])
        stacked = {id(stack) for stack in self._stacks[0].values()}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and (id(parameter) not in stacked or parameter.shape[0] != members):
                raise Unstackable(f"{name} stayed unstacked")

    def focus(self, chunk: range, batch: int) -> None:
        """Put the stacks of some members into the twins."""
        self.fold.members, self.fold.batch = len(chunk), batch
        stacks = self._stacks[self.chunks.index(chunk)]
        for name, targets in self._targets.items():
            for twin, key in targets:
                twin._parameters[key] = stacks[name]

    def collect(self) -> None:
        """Bind each view's gradient to its slice of the stack's."""
        for chunk, stacks in zip(self.chunks, self._stacks, strict=True):
            for name, stack in stacks.items():
                views = self.views[name]
                gradients = [None] * len(chunk) if stack.grad is None else stack.grad.unbind(0)
                for member, gradient in zip(chunk, gradients, strict=True):
                    views[member].grad = gradient

    def zero_grad(self) -> None:
        """Forget the gradients of every member."""
        for stacks in self._stacks:
            for stack in stacks.values():
                if stack.grad is not None and stack.device.type == "cpu":
                    stack.spare = stack.grad  # type: ignore[attr-defined]
                stack.grad = None
        for views in self.views.values():
            for view in views:
                view.grad = None

    def unmount(self) -> None:
        """Put the plain layers back."""
        if not self._mounted:
            return
        for parent, key, child in self._places:
            child.train(self._twins[id(child)].training)
            parent._modules[key] = child
        self._stacks, self._mounted = [], False


def refuse(model: nn.Module) -> None:
    """Raise Unstackable for what folding computes wrongly without an error.

    Statistics over the batch (BatchNorm), auxiliary losses over the batch (mixture of experts), attention kernels that
    drop the padding and so lose the rows.
    """
    for name, module in model.named_modules():
        if isinstance(module, _NormBase):
            raise Unstackable(f"{name} ({type(module).__name__}) keeps statistics of the batch")
    config = getattr(model, "config", None)
    if getattr(config, "router_aux_loss_coef", None) or getattr(config, "output_router_logits", False):
        raise Unstackable("a mixture of experts has a loss over the whole batch")
    if "flash" in str(getattr(config, "_attn_implementation", "")):
        raise Unstackable("flash attention drops the padding: use attn_implementation='sdpa'")
