"""The stacked counterparts of layers: same computation, parameters with a leading member axis."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from deni.engine.active_tokens import ActiveEmbedding
from deni.engine.fold import Fold, FoldError


class Unstackable(ValueError):
    """A layer that has no stacked counterpart; the message says which and why."""


class Twin(nn.Module):
    """A stacked layer: its trainable parameters are `(M, *shape)`, its frozen ones stay shared.

    Args:
        original: the layer; also answers for attributes that other code asks a layer for (`in_features`).
        stacked: keys of the parameters that are stacked, `list.key` of those in its lists; the engine puts them in
            place.
        fold: how many members and examples are computed now.
        name: the path of the layer, for messages.
    """

    def __init__(self, original: nn.Module, stacked: frozenset[str], fold: Fold, name: str) -> None:
        super().__init__()
        self.__dict__["original"] = original
        self.stacked, self.fold, self.name = stacked, fold, name
        for key, parameter in original._parameters.items():
            self._parameters[key] = parameter
        self.train(original.training)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["original"], name)

    def per_member(self, key: str, dims: int) -> Tensor:
        """A parameter as `(M, 1, ..., 1, *shape)` with `dims` dims, or unstacked where all members share it."""
        value = self._parameters[key]
        assert value is not None
        if key not in self.stacked:
            return value
        return value.view(value.shape[0], *[1] * (dims - value.dim()), *value.shape[1:])


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`(M, N, in)` times `(M, out, in)` transposed, plus `(M, 1, out)`, gives `(M, N, out)`."""
    if bias is None:
        return torch.bmm(rows, weight.transpose(1, 2))
    return torch.baddbmm(bias, rows, weight.transpose(1, 2))


class _Product(torch.autograd.Function):
    """`_product` with the weight's gradient made in the weight's own layout.

    Autograd makes it transposed and copies it for the parameter: a quarter of a step of ten members on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.bias = None if bias is None else bias.shape
        return _product(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        of_rows = torch.bmm(grad, weight) if ctx.needs_input_grad[0] else None
        of_weight = _gradient(weight, grad.transpose(1, 2), rows) if ctx.needs_input_grad[1] else None
        of_bias = grad.sum_to_size(ctx.bias) if ctx.bias is not None and ctx.needs_input_grad[2] else None
        return of_rows, of_weight, of_bias


def _gradient(weight: Tensor, left: Tensor, right: Tensor) -> Tensor | None:
    """`left @ right` as the gradient of a weight; None where it is in `weight.grad` already.

    A new tensor in each step costs its page faults (8 % of a step of ten members on a CPU), so the last step's is
    written again where the engine kept it as `spare`; more uses of the same weight (ALBERT) add to it in place.
    """
    if weight.is_leaf and weight.grad is not None:
        weight.grad.baddbmm_(left, right)
        return None
    if not weight.is_leaf or (spare := getattr(weight, "spare", None)) is None:
        return torch.bmm(left, right)
    weight.spare = None  # type: ignore[attr-defined]
    weight.grad = torch.bmm(left, right, out=spare)
    return None


class _Lookup(torch.autograd.Function):
    """Rows of stacked tables `(M, V, D)` by ids that count through all of them, with the gradient in `table.spare`.

    Autograd makes a new gradient in each step, nearly all of it zeros: for whole tables on a CPU, the page faults of
    that cost more than half of what the optimizer does. See `_gradient`.
    """

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(ids, table)
        return F.embedding(ids, table.flatten(0, 1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None]:
        ids, table = ctx.saved_tensors
        rows, places = ids.unique(return_inverse=True)
        # The sums of the same kernel in the same order as those of the whole tables.
        of_rows = torch.ops.aten.embedding_dense_backward(grad, places, len(rows), -1, False)
        if table.is_leaf and table.grad is not None:
            table.grad.flatten(0, 1).index_add_(0, rows, of_rows)
            return None, None
        spare = getattr(table, "spare", None) if table.is_leaf else None
        whole = torch.zeros_like(table) if spare is None else spare.zero_()  # all of it: others may have written there
        whole.flatten(0, 1)[rows] = of_rows
        if spare is None:
            return None, whole
        table.spare, table.grad = None, whole
        return None, None


def _looked_up(ids: Tensor, table: Tensor) -> Tensor:
    """`(M, ..., D)`: rows of `(M, V, D)` by ids `(M, ...)` of each table."""
    members, rows = table.shape[:2]
    ids = ids + torch.arange(members, device=ids.device).mul_(rows).view(-1, *[1] * (ids.dim() - 1))
    # On a GPU the number of distinct ids would be waited for.
    return _Lookup.apply(ids, table) if ids.device.type == "cpu" else F.embedding(ids, table.flatten(0, 1))


def _shift(product: Tensor, bias: Tensor) -> Tensor:
    """`product + bias`, in place: autograd does not need the product, and a second tensor costs as much as the sum.

    Of one type first: under autocast the sum of two types takes a slow path.
    """
    return product.add_(bias.to(product.dtype))


class StackedLinear(Twin):
    """`nn.Linear`: one batched product over the members; a frozen weight stays one large product."""

    def forward(self, folded: Tensor) -> Tensor:
        h = self.fold.unfold(folded, self.name)  # (M, B, ..., D)
        weight, bias = self.weight, self._parameters["bias"]
        if "weight" not in self.stacked:
            return _shift(F.linear(h, weight), self.per_member("bias", h.dim())).flatten(0, 1)
        rows = h.flatten(1, -2)  # (M, B*T, D)
        shift = None if bias is None else self.per_member("bias", 3)
        # Autocast works on operations that it knows, so there the product is left to autograd.
        product = _product if torch.is_autocast_enabled(rows.device.type) else _Product.apply
        out = product(rows, weight, shift)  # (M, B*T, out)
        return out.view(*folded.shape[:-1], out.shape[-1])


class StackedConv1D(Twin):
    """`transformers.pytorch_utils.Conv1D`: a linear layer with a transposed weight."""

    def forward(self, folded: Tensor) -> Tensor:
        h = self.fold.unfold(folded, self.name)  # (M, B, ..., D)
        if "weight" not in self.stacked:
            return _shift(h @ self.weight, self.per_member("bias", h.dim())).flatten(0, 1)
        out = torch.baddbmm(self.per_member("bias", 3), h.flatten(1, -2), self.weight)
        return out.view(*folded.shape[:-1], out.shape[-1])


class StackedLayerNorm(Twin):
    """`nn.LayerNorm`: the normalization is shared, scale and shift are not."""

    def forward(self, folded: Tensor) -> Tensor:
        original = self.__dict__["original"]
        h = self.fold.unfold(folded, self.name)  # (M, B, ..., D)
        if "weight" not in self.stacked and self._parameters["bias"] is not None:
            h = F.layer_norm(h, original.normalized_shape, self.weight, eps=original.eps)
            return _shift(h, self.per_member("bias", h.dim())).flatten(0, 1)
        h = F.layer_norm(h, original.normalized_shape, eps=original.eps)
        weight = self.per_member("weight", h.dim())
        if self._parameters["bias"] is None:
            return (h * weight).flatten(0, 1)
        return torch.addcmul(self.per_member("bias", h.dim()), h, weight).flatten(0, 1)


class Prompts(Tensor):
    """Virtual tokens of each member `(M, T, D)`, which PEFT repeats for the rows of the batch."""

    def repeat(self, *sizes: int) -> Tensor:  # type: ignore[override]
        """For `(M*B, 1, 1)`: each member's tokens for its own rows; anything else is refused."""
        members = self.as_subclass(Tensor)
        rows, rest = divmod(sizes[0], len(members))
        if rest or sizes[1:] != (1, 1):
            raise FoldError(f"virtual tokens of {len(members)} members are repeated {sizes}")
        return members.repeat_interleave(rows, 0)


class StackedEmbedding(Twin):
    """`nn.Embedding`: the members' tables below each other, looked up with offset ids."""

    def forward(self, ids: Tensor) -> Tensor:
        h = self._ids(ids)  # (M, B, ...) or (M, 1, ...)
        out = _looked_up(h, self.weight)  # (M, B, ..., D)
        padding = self.__dict__["original"].padding_idx
        if padding is not None:  # its row gets no gradient
            out = torch.where((h == padding).unsqueeze(-1), out.detach(), out)
        return self._fold(out)

    def _ids(self, ids: Tensor) -> Tensor:
        """The ids of each member; positions may come once for all rows, and then stay so until `_fold`."""
        if ids.shape[0] == 1 != self.fold.members * self.fold.batch and (_is_position(self.name) or self._is_prompt):
            return ids.expand(self.fold.members, *ids.shape).flatten(0, 1).unsqueeze(1)
        return self.fold.unfold(ids, self.name)

    @property
    def _is_prompt(self) -> bool:
        """Whether these are PEFT's virtual tokens, which come once and are repeated afterwards."""
        return ".prompt_encoder." in f".{self.name}."

    def _fold(self, out: Tensor) -> Tensor:
        if self._is_prompt and out.shape[1] == 1:
            return out.flatten(0, 1).as_subclass(Prompts)
        return out.expand(out.shape[0], self.fold.batch, *out.shape[2:]).flatten(0, 1)


class StackedActiveEmbedding(StackedEmbedding):
    """`ActiveEmbedding`: the members' active rows below each other; all other ids share the frozen table."""

    def forward(self, ids: Tensor) -> Tensor:
        original = self.__dict__["original"]
        h = self._ids(ids)
        places = original.places[h]
        trained = _looked_up(places.clamp(min=0), self.weight)
        frozen = F.embedding(h, original.table)
        return self._fold(torch.where((places >= 0).unsqueeze(-1), trained, frozen))


class Vmapped(Twin):
    """Any other layer whose own layers are frozen: `torch.func.vmap` over its forward (RMSNorm of any family, IA3)."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        original = self.__dict__["original"]
        own: dict[str, Tensor] = {key: value for key, value in self._parameters.items() if value is not None}
        stacks = {key: own[key] for key in self.stacked}
        shared = {key: value for key, value in own.items() if key not in self.stacked}

        def unfold(value: Any) -> Any:
            return self.fold.unfold(value, self.name) if isinstance(value, Tensor) and value.dim() else value

        def one(stacked: dict[str, Tensor], args: tuple, kwargs: dict[str, Any]) -> Any:
            return torch.func.functional_call(original, {**shared, **stacked}, args, kwargs)

        def axis(value: Any) -> int | None:
            return 0 if isinstance(value, Tensor) and value.dim() else None

        args, kwargs = tuple(map(unfold, args)), {key: unfold(value) for key, value in kwargs.items()}
        # As one argument each, since vmap does not map keyword arguments.
        axes = tuple(map(axis, args)) or None, {key: axis(value) for key, value in kwargs.items()} or None
        out = torch.func.vmap(one, in_dims=(0, *axes))(stacks, args, kwargs)
        if not isinstance(out, Tensor):
            raise FoldError(f"{self.name} returns {type(out).__name__}, not a tensor")
        return out.flatten(0, 1)


TWINS: dict[type[nn.Module], type[Twin]] = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedLayerNorm,
    nn.Embedding: StackedEmbedding,
    Conv1D: StackedConv1D,
    ActiveEmbedding: StackedActiveEmbedding,
}
_POSITIONS: tuple[str, ...] = ("position", "wpe")


def twin_of(module: nn.Module, stacked: frozenset[str], fold: Fold, name: str) -> Twin:
    """The stacked counterpart of a layer.

    Raises:
        Unstackable: a layer with its own parameters around trainable layers, or an embedding that scales or
            renormalizes its rows.
    """
    if isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq):
        raise Unstackable(f"{name} renormalizes its rows")
    if module._forward_hooks or module._forward_pre_hooks:
        raise Unstackable(f"{name} has forward hooks")
    if type(module) in TWINS:
        return TWINS[type(module)](module, stacked, fold, name)
    if any(parameter.requires_grad and key not in stacked for key, parameter in module.named_parameters()):
        raise Unstackable(f"{name} ({type(module).__name__}) has its own parameters around trainable layers")
    return Vmapped(module, stacked, fold, name)


def _is_position(name: str) -> bool:
    return any(word in name.rpartition(".")[2] for word in _POSITIONS)


__all__ = ["TWINS", "Twin", "Unstackable", "twin_of"]
