"""Buffers of a model that is only tried out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Leave the buffers of a model, such as running means, as they were: what is only tried out is no training."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in before:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
                module._buffers[name] = buffer
