"""Float32 matrix products on a CPU by oneDNN, where it is faster than MKL and as exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# torch has one switch for it, which also allows oneDNN to round to bfloat16. It does so where the processor has units
# for that (AMX), and nowhere else.
_ON = "medium"
_EXACT = 1e-6  # rounding to float32 is below 1e-7 of the sum of the absolute products, to TF32 above 1e-5
_SHORT = 128  # tokens up to which attention by plain products is faster than its fused kernel on oneDNN


@contextmanager
def fast_products() -> Iterator[None]:
    """Inside, float32 products on a CPU are oneDNN's where that is faster and as exact; elsewhere nothing changes.

    For what one thread computes in a stretch: the switch is the process's, and other code may read it. Contexts may
    overlap in several threads, and the last one that ends gives the setting back. A setting of the user is left alone.
    """
    if not _SWITCH.hold():
        yield
        return
    try:
        with _ShortAttention():
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
        return not _SWITCH.users and _settings()[0] not in ("none", "ieee")


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

    def hold(self) -> bool:
        """Switch it on for one more user; False where it stays off."""
        with self.lock:
            if not self.users:
                if self.works is False or not torch.backends.mkldnn.enabled or _settings() != ("none", "none"):
                    return False
                torch.set_float32_matmul_precision(_ON)
                self.works = (_is_faster() and _is_exact()) if self.works is None else self.works
                if not self.works:
                    _restore()
                    return False
            self.users += 1
            return True

    def release(self) -> None:
        """The last user switches it off, unless somebody has changed the setting meanwhile."""
        with self.lock:
            self.users -= 1
            if not self.users and _settings() == ("bf16", "tf32"):
                _restore()


_SWITCH = _Switch()


def _settings() -> tuple[str, str]:
    """What float32 products may be rounded to, on a CPU and on a GPU."""
    backends: Any = torch.backends
    return backends.mkldnn.matmul.fp32_precision, backends.cuda.matmul.fp32_precision


def _restore() -> None:
    """As torch starts: the old function first, which sets what others read by the old names, then the new names."""
    backends: Any = torch.backends
    torch.set_float32_matmul_precision("highest")
    backends.mkldnn.matmul.fp32_precision = backends.cuda.matmul.fp32_precision = "none"


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


class _ShortAttention(TorchFunctionMode):
    """Attention over few tokens by products of all rows and heads.

    The fused kernel calls oneDNN for each small block of each row and head, which costs more than to compute it.
    """

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


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
    attention: Any = F.scaled_dot_product_attention
    whole = query.dtype == torch.float32 and query.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if short := whole and not query.is_nested and key.shape[-2] <= _SHORT:
        attention = torch.ops.aten._scaled_dot_product_attention_math
    out = attention(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    return out[0] if short else out
