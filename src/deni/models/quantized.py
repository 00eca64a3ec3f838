"""Weights in 4 bits, as bitsandbytes has them: which parameters these are, and that they can be trained over."""

from __future__ import annotations

from torch import Tensor, nn


def is_quantized(parameter: Tensor) -> bool:
    """Whether it is a weight of bitsandbytes in 4 bits."""
    return hasattr(parameter, "quant_state")


def keep_trainable(model: nn.Module) -> None:
    """Have evaluation on a CPU leave weights in 4 bits as they are.

    Where a CPU has products of bfloat16, bitsandbytes packs them anew for its fast product of inference, for good; and
    that has no gradient.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
