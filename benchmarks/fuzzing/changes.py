"""What is done to bytes, JSON values, tensors and files."""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HUGE = (2**31, 2**63, 2**64, 10**30, 10**400)
NUMBERS: tuple[Any, ...] = (0, -1, 1, 2, 3, 7, 0.5, -0.0, 1e308, -1e308, 1e-320, *HUGE, *(-each for each in HUGE))
ODD_TEXTS = ("", " ", "\0", "a" * 300, "../../mine.txt", "/etc/passwd", "\ud800", "\u202e", "\x1b]0;x\x07", "[red]x[/]")
ODD_TEXTS += ("NaN", "null", "1e309", "TRUE", "ü" * 130, "{}", "%s%n", "a\nb", "nul", "\ufeff", "x" * 70_000)


def change_bytes(draw: random.Random, data: bytes) -> bytes:
    """Cut, flip, insert, repeat, replace."""
    at = draw.randrange(len(data) + 1)
    other = draw.choice(
        (b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[2J", b"\r", b'"', b"[" * 100_000, b"\n\n", b"9" * 5000)
    )
    kind = draw.randrange(8)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + other + data[at:]
    if kind == 2:
        return data[:at] + other + data[at + len(other) :]
    if kind == 3:
        return data[at:] + data[:at]
    if kind == 4:
        return data[:at] + data[at : at + draw.randrange(100)] * draw.randrange(1, 50) + data[at:]
    if kind == 5:
        return draw.choice((b"", b" ", b"null", b"[]", b"{}", b"0", b'""', b"\xef\xbb\xbf", b"[" * 200_000, bytes(100)))
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 3, 20))):
        if found:
            found[draw.randrange(len(found))] = draw.randrange(256)
    return bytes(found)


def odd_value(draw: random.Random, old: Any = None) -> Any:
    """A JSON value that does not fit."""
    choice = draw.randrange(9)
    if choice < 3:
        return draw.choice(NUMBERS)
    if choice == 3:
        return draw.choice((None, True, False, float("nan"), float("inf"), [], {}, [[]], {"": None}))
    if choice == 4:
        return draw.choice(ODD_TEXTS)
    if choice == 5:
        return [old, old]
    if choice == 6:
        return shortened(old)
    if choice == 7 and isinstance(old, list | dict | str) and old:
        return old[: len(old) // 2] if isinstance(old, list | str) else dict(list(old.items())[: len(old) // 2])
    value: Any = old
    for _ in range(draw.choice((1, 20, 900, 5000))):
        value = [value] if draw.random() < 0.99 else {"a": value}
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values are in a JSON value; those far down less often."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        if len(path) < 6:
            yield from places(each, (*path, key))


def change_json(draw: random.Random, value: Any) -> Any:
    """Put an odd value somewhere, take one away, or add one."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        shallow = draw.random() < 0.6
        found = [path for path in places(value) if not shallow or len(path) == 1]
        if not found:
            return odd_value(draw, value)
        *above, key = draw.choice(found)
        parent = value
        for each in above:
            parent = parent[each]
        if draw.random() < 0.2:
            del parent[key]
        elif draw.random() < 0.1 and isinstance(parent, dict):
            parent[draw.choice(ODD_TEXTS)] = parent.pop(key)
        else:
            parent[key] = odd_value(draw, parent[key])
    return value


def dumped(value: Any) -> bytes:
    """JSON, with NaN and half surrogates as Python writes them, of any depth and length."""
    import sys

    limits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
    sys.setrecursionlimit(50_000)
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value, indent=None).encode()
    finally:
        sys.setrecursionlimit(limits[0])
        sys.set_int_max_str_digits(limits[1])


def change_file(draw: random.Random, path: Path) -> None:
    """Change a file's content by its kind, or what it is."""
    kind = draw.random()
    if kind < 0.04:
        path.unlink()
        other = draw.randrange(4)
        if other == 1:
            path.mkdir()
        elif other == 2:
            path.symlink_to(draw.choice((path.name, "../mine.txt", "/dev/zero", "nowhere")))
        elif other == 3:
            os.mkfifo(path)
        return
    if kind < 0.75 and path.suffix == ".json":
        path.write_bytes(dumped(change_json(draw, json.loads(path.read_bytes()))))
    elif kind < 0.75 and path.suffix == ".safetensors":
        change_tensors(draw, path)
    else:
        path.write_bytes(change_bytes(draw, path.read_bytes()))


def _equal(one: Any, other: Any) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def change_tensors(draw: random.Random, path: Path) -> bool:
    """Change a file of tensors, which stays one; whether it can never be that of the same model."""
    from safetensors.numpy import load_file, save_file

    try:
        tensors = load_file(path)
    except Exception:  # changed before
        return False
    if not tensors:
        return False
    name = draw.choice(sorted(tensors))
    value = tensors[name]
    kind = draw.randrange(12)
    fatal = True
    if kind == 0:
        del tensors[name]
        # A tied weight has several names, of which one will do.
        fatal = not any(key.endswith(name) or name.endswith(key) for key in tensors if _equal(tensors[key], value))
    elif kind == 1:
        tensors[draw.choice(("x", "", "../x", name + ".x", name[:-1]))] = tensors.pop(name)
    elif kind == 2:
        tensors[draw.choice(("x", "x@ids", "classifier.other"))] = value.copy()
    elif kind == 3:
        tensors[name] = value[: len(value) // 2].copy() if value.ndim else value.copy()
        fatal = bool(value.ndim)
    elif kind == 4:
        tensors[name] = value[:0].copy() if value.ndim else value.copy()
        fatal = bool(value.ndim)
    elif kind == 5 and value.dtype.kind == "f":
        odd = value.copy()
        odd.reshape(-1)[draw.randrange(odd.size)] = draw.choice((np.nan, np.inf, -np.inf))
        tensors[name] = odd
    elif kind == 6 and value.dtype.kind == "f":
        tensors[name] = value.astype(draw.choice((np.int64, np.int8, np.bool_)))
    elif kind == 7 and value.dtype.kind == "f":
        tensors[name] = value.astype(np.float64)
        fatal = False
    elif kind == 8:
        tensors = {key: each[: max(1, len(each) // 2)].copy() if each.ndim else each for key, each in tensors.items()}
        fatal = any(each.ndim and len(each) > 1 for each in (value,))
    elif kind == 9:
        tensors[name] = np.expand_dims(value, draw.randrange(value.ndim + 1)).copy()
        fatal = True
    elif kind == 10:
        tensors = {}
    elif kind == 11 and value.dtype.kind == "i":
        tensors[name] = value + draw.choice((-(10**6), 10**6, -(2**62), 1))
        fatal = False
    else:
        fatal = False
    save_file(tensors, path, metadata={"format": "pt"})
    return fatal


def shortened(value: Any) -> str:
    if isinstance(value, int):
        return "9" * 400 if abs(value) > 10**300 else str(value)
    try:
        return str(value)
    except (RecursionError, ValueError):  # nested too deep, or too many digits
        return "["
