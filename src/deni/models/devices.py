"""Where to compute: a device by its name."""

from __future__ import annotations

import torch

from deni.errors import InputError


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The device of this name.

    Args:
        name: `auto` or None for an accelerator if there is one, else the CPU; `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        InputError: a name that is not one, or a device that this machine lacks; the message lists those it has.

    >>> find_device("cpu")
    device(type='cpu')
    """
    there = available_devices()
    if name is None or name == "auto":
        return torch.device(there[-1] if len(there) == 1 else there[1])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    known = {*there, *(each.partition(":")[0] for each in there)}
    if device is None or str(device) not in known:
        raise InputError(f"there is no device {name} here: choose auto or {' or '.join(there)}")
    return device


def available_devices() -> list[str]:
    """The devices of this machine, the CPU first."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return ["cpu"]
    count = torch.accelerator.device_count()
    names = [f"{accelerator.type}:{number}" for number in range(count)] if accelerator.type != "mps" else ["mps"]
    return ["cpu", *names]
