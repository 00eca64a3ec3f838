"""What a result was computed with, and from which content: versions, environment, digests."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deni._version import __version__

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "transformers", "peft")  # those that may change a result


def versions() -> dict[str, str]:
    """Versions of this library and of the packages that may change a result."""
    return {"deni": __version__, **{name: version(name) for name in PACKAGES}}


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions, Python, device and threads of this process.

    Args:
        device: where the result was computed; None for the GPU if there is one.
    """
    import torch

    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    return {
        **versions(),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if on_gpu else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
    }


def canonical(value: Any) -> str:
    """JSON of one spelling: sorted keys, no blanks, numbers as Python writes them; NaN is refused.

    >>> canonical({"b": 1, "a": [0.1, None]})
    '{"a":[0.1,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def depth(value: Any, most: int) -> int:
    """How many levels a JSON value has, counted up to one more than `most`.

    >>> depth({"a": [1]}, 9), depth([[[]]], 1)
    (3, 2)
    """
    level, deep = [value], 0
    while level and deep <= most:
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        deep += 1
    return deep


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_of_text(text: str) -> str:
    """SHA-256 of a text in UTF-8, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: str | Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
