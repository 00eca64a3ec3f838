"""Code of a user's own that a model computes with: no folder holds it, and a class of the library predicts otherwise.

Decided by the identity of classes and functions: predictions that are equal for some texts may differ for the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

from torch import nn

# Who may put a layer in the place of another, or a hook on it, without another result; adapters are compared as others.
KNOWN = ("torch.", "transformers.", "peft.", "adapters.", "accelerate.", "bitsandbytes.", "deni.")
_FOR_TRAINING = {"loss_function", "__init__", "__module__", "__doc__"}  # what it changes is not what a model predicts


def own_code(model: nn.Module, made: nn.Module) -> str:
    """Why a model may predict otherwise than the one that loading makes; empty if it runs the same code.

    Args:
        model: what was trained.
        made: with equal names of parameters and buffers.
    """
    others = dict(made.named_modules(remove_duplicate=False))
    for path, module in model.named_modules(remove_duplicate=False):
        name = type(module).__name__
        other = others.get(path)
        if other is not None and type(other) is not type(module):
            changed = next(_changed(type(module), type(other)), "")
            if changed:
                return f"{name} has its own {changed}"
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        own = vars(module).get("forward")
        if any(not _is_known(each) for each in [*hooks, *([own] if own is not None else [])]):
            return f"a function is hooked to {name}"
    return ""


def _changed(cls: type, base: type) -> Iterator[str]:
    """The names of what a class of the user's own defines anew of a library's, or its own name if it is not one."""
    for each in cls.__mro__:
        if each is base or f"{each.__module__}.".startswith(KNOWN):
            return
        for name, value in vars(each).items():
            if name in _FOR_TRAINING or not hasattr(base, name):
                continue
            if isinstance(value, FunctionType | property | classmethod | staticmethod):
                yield name
    yield "class"


def _is_known(function: Any) -> bool:
    function = getattr(function, "__wrapped__", function)
    function = getattr(function, "func", function)  # of a partial
    function = getattr(function, "__func__", function)
    return f"{getattr(function, '__module__', None) or type(function).__module__}.".startswith(KNOWN)
