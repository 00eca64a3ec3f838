"""Computing in float32 for a while, whatever the type of a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deni.models.products import are_rounded

HALF = (torch.float16, torch.bfloat16)


@contextmanager
def in_float32(model: nn.Module) -> Iterator[bool]:
    """Inside, half-precision parameters and buffers are float32, and products of float32 are not rounded to less.

    Gives whether anything was half. Afterwards everything is as it was, to the bit and in the same memory. Quantized
    weights stay so; what is computed with them is float32.
    """
    data = [(each, each.data) for each in model.parameters() if each.dtype in HALF]
    buffers = [
        (module, key, buffer)
        for module in model.modules()
        for key, buffer in module._buffers.items()
        if buffer is not None and buffer.dtype in HALF
    ]
    computing = [  # bitsandbytes: the type of the product with a quantized weight
        (module, kind) for module in model.modules() if (kind := vars(module).get("compute_dtype")) in HALF
    ]
    try:
        with unrounded():
            for parameter, _ in data:
                parameter.data = parameter.data.float()
            for module, key, buffer in buffers:
                module._buffers[key] = buffer.float()
            for module, _ in computing:
                vars(module)["compute_dtype"] = torch.float32
            yield bool(data or buffers or computing)
    finally:
        for parameter, before in data:
            parameter.data = before
        for module, key, buffer in buffers:
            module._buffers[key] = buffer
        for module, kind in computing:
            vars(module)["compute_dtype"] = kind


@contextmanager
def unrounded() -> Iterator[None]:
    """Inside, products of float32 are not computed in TF32 or bfloat16, which a process may allow."""
    torchs: Any = torch.backends
    backends = [torchs.cuda.matmul] if torch.cuda.is_available() else []
    backends += [torchs.mkldnn.matmul] if are_rounded() else []
    before = [each.fp32_precision for each in backends]
    for each in backends:
        each.fp32_precision = "ieee"
    try:
        yield
    finally:
        for each, precision in zip(backends, before, strict=True):
            each.fp32_precision = precision


def as_float32(value: Any) -> Any:
    """A half-precision tensor as float32; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
