"""Float32 matrix products on a CPU by oneDNN, where it is faster than MKL and as exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock, local
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# torch has one switch for it, which also allows oneDNN to round to bfloat16. It does so where the processor has units
# for that (AMX), and nowhere else.
_ON, _SET = "medium", ("bf16", "tf32")  # what the old function of torch is told, and what the new names have then
_WHOLE = ("none", "ieee")  # settings by the new names that do not round
_EXACT = 1e-6  # rounding to float32 is below 1e-7 of the sum of the absolute products, to TF32 above 1e-5
_SHORT = 128  # tokens up to which attention by plain products is faster than its fused kernel
_NARROW = 2**14  # tokens times features of a head up to which the fused kernel is faster on MKL
_FEW = 2**19  # multiplications up to which a product is faster on MKL: a call of oneDNN takes 12 microseconds
_ONE_ROW = 2**22  # the same of one row, which MKL multiplies in half the time


@contextmanager
def fast_products() -> Iterator[None]:
    """Inside, float32 products on a CPU are oneDNN's where that is faster and as exact; elsewhere nothing changes.

    For what one thread computes in a stretch: the switch is the process's, and other code may read it. Contexts may
    overlap in several threads, and the last one that ends gives the setting back. Where the user
    allows products to be rounded, or oneDNN is switched off (`torch.backends.mkldnn.enabled`), nothing changes either.
    """
    if not _SWITCH.hold():
        yield
        return
    try:
        with _Routes():
            yield
    finally:
        _SWITCH.release()


def are_fast() -> bool:
    """Whether float32 products are oneDNN's inside `fast_products`."""
    held = _SWITCH.hold()
    if held:
        _SWITCH.release()
    return held


def are_rounded() -> bool:
    """Whether the user allows float32 products on a CPU to be rounded to less."""
    with _SWITCH.lock:
        return not _SWITCH.users and _settings()[0] not in _WHOLE


class _Switch:
    """Counts who computes with oneDNN.

    Attributes:
        users: contexts that are open, in all threads.
        works: whether this processor is one of those, and oneDNN is exact on it; None before it was tried.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.works: bool | None = None
        self._paused = False
        self._before = ("none", "none")

    def hold(self) -> bool:
        """Switch it on for one more user; False where it stays off."""
        with self.lock:
            if not self.users:
                self._before = before = _settings()
                off = self.works is False or not torch.backends.mkldnn.enabled
                if off or not all(each in _WHOLE for each in before):
                    return False
                torch.set_float32_matmul_precision(_ON)
                self.works = (_is_faster() and _is_exact()) if self.works is None else self.works
                if not self.works:
                    _restore(before)
                    return False
            self.users += 1
            return True

    def release(self) -> None:
        """The last user switches it off, unless somebody has changed the setting meanwhile."""
        with self.lock:
            self.users -= 1
            if not self.users and (self._paused or _settings() == _SET):
                self._paused = False
                _restore(self._before)

    def pause(self) -> None:
        """Switch it off for one call of the only user; of several, others would compute with other bits."""
        with self.lock:
            if self.users == 1 and torch.get_float32_matmul_precision() == _ON:
                self._paused = True
                torch.set_float32_matmul_precision("highest")

    def resume(self) -> None:
        """Switch it on after `pause`."""
        with self.lock:
            if self._paused:
                self._paused = False
                torch.set_float32_matmul_precision(_ON)


_SWITCH = _Switch()


def _settings() -> tuple[str, str]:
    """What float32 products may be rounded to, on a CPU and on a GPU."""
    backends: Any = torch.backends
    return backends.mkldnn.matmul.fp32_precision, backends.cuda.matmul.fp32_precision


def _restore(settings: tuple[str, str]) -> None:
    """First by the old function, which sets what is read by the old names, then by the new ones."""
    backends: Any = torch.backends
    torch.set_float32_matmul_precision("highest")
    backends.mkldnn.matmul.fp32_precision, backends.cuda.matmul.fp32_precision = settings


def _is_faster() -> bool:
    """Whether oneDNN's products are faster: by kind of processor, since a measurement could differ from run to run.

    Measured on AMD's Zen 5, which is the first of theirs with AVX-VNNI and with AVX-512 in full width: MKL reaches half
    of oneDNN's rate there. On a machine with a GPU the switch would concern that, too.
    """
    has = torch.cpu.get_capabilities()
    amd = str(has.get("cpu_name", "")).startswith("AMD")
    vectors = bool(has.get("avx512_f") and has.get("avx_vnni"))
    return amd and vectors and not torch.accelerator.is_available()


def _is_exact() -> bool:
    """Whether products have the accuracy of float32, those of gradients and of stacked members included."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")

    with torch.autocast("cpu", enabled=False), torch.no_grad():
        for rows, width, out in ((64, 384, 512), (32, 1536, 64), (8, 384, 6), (64, 384, 8), (64, 8, 384)):
            h, weight, grad = draw(rows, width), draw(out, width), draw(rows, out)
            if not all(_agree(*pair) for pair in ((h, weight.t()), (grad, weight), (grad.t(), h))):
                return False
        batches = ((2, 64, 384), (2, 384, 256)), ((2, 256, 64), (2, 64, 384)), ((24, 25, 32), (24, 32, 25))
        return all(_agree(draw(*left), draw(*right)) for left, right in batches)


def _agree(left: Tensor, right: Tensor) -> bool:
    product = left @ right
    exact, size = left.double() @ right.double(), left.abs().double() @ right.abs().double()
    return bool(((product - exact).abs() <= _EXACT * size).all())


def attention_as_now() -> AbstractContextManager:
    """What to compute attention in later, as it would be computed now.

    For what is checkpointed: `backward` computes it again, and there are no modes of functions inside of it.
    """
    return _Routes() if getattr(_ENTERED, "times", 0) else nullcontext()


_ENTERED = local()  # how many times this thread is in `_Routes`


class _Routes(TorchFunctionMode):
    """Takes each product where it is faster: what is small, as of a text that is generated token by token, by MKL.

    Which way one goes follows from its shape alone, so equal seeds give equal bits.
    """

    def __enter__(self) -> _Routes:
        _ENTERED.times = getattr(_ENTERED, "times", 0) + 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _ENTERED.times -= 1
        super().__exit__(*error)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        at = _OPERANDS.get(func)
        if at is None or torch.is_grad_enabled() or not _is_small(*args[at : at + 2]):
            return func(*args, **(kwargs or {}))
        return _by_mkl(func, *args, **(kwargs or {}))


# Where the rows are among the arguments of a product; what they are multiplied with is next.
_OPERANDS: dict[Any, int] = {F.linear: 0, torch.bmm: 0, torch.baddbmm: 1, torch.addmm: 1}


def _is_small(*operands: Any) -> bool:
    """Whether MKL is faster for these: rows `(..., N, in)`, and weights, one for all rows or for each batch."""
    if len(operands) < 2 or operands[0].dtype != torch.float32 or operands[0].device.type != "cpu":
        return False
    rows, weight = operands
    per_row = weight.numel()
    count = rows.shape[-2] if weight.dim() == 3 else rows.numel() // max(1, rows.shape[-1])
    return count * per_row <= _FEW or (count == 1 and per_row <= _ONE_ROW)


def _by_mkl(func: Callable, *args: Any, **options: Any) -> Any:
    """A call, and its backward pass, without oneDNN."""
    _SWITCH.pause()
    try:
        out = func(*args, **options)
    finally:
        _SWITCH.resume()
    if out.grad_fn is not None:
        out.grad_fn.register_prehook(lambda _: _SWITCH.pause())
        out.grad_fn.register_hook(lambda *_: _SWITCH.resume())
    return out


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    whole = query.dtype == torch.float32 and query.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    plain = not whole or query.is_nested or bool(dropout_p)
    single = not plain and query.shape[-2] == 1 and not torch.is_grad_enabled()
    if plain or single or key.shape[-2] > _SHORT:
        given = (query, key, value, attn_mask, dropout_p, is_causal)
        options: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
        if single or (not plain and key.shape[-2] * key.shape[-1] <= _NARROW):
            return _by_mkl(F.scaled_dot_product_attention, *given, **options)
        return F.scaled_dot_product_attention(*given, **options)
    if enable_gqa:
        key, value = in_groups(query, key, value)
    return attention_weights(query, key, attn_mask, is_causal, scale) @ value


def in_groups(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values, `(..., heads, T, D)`, for each head of the queries, where several of these share them."""
    groups = query.shape[-3] // key.shape[-3]
    return key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None) -> Tensor:
    """What scaled-dot-product attention multiplies values with, `(..., heads, T, T)`; arguments are as of torch's."""
    query = query * (query.shape[-1] ** -0.5 if scale is None else scale)  # smaller than the scores
    scores = query @ key.transpose(-2, -1)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype != torch.bool:
        return scores.add_(mask.to(scores.dtype)).softmax(-1)  # of one type: a sum of two takes a slow path
    # Finite, so that a row without any allowed place (padding on the left) has weights 0, not NaN.
    least = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device)
    weights = scores.add_(least.masked_fill_(~mask, torch.finfo(scores.dtype).min)).softmax(-1)
    allowed = mask.any(-1, keepdim=True)
    if allowed.device.type == "cpu" and allowed.all():  # not to wait for a GPU's answer
        return weights
    return weights * allowed.to(weights.dtype)
