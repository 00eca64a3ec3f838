"""Fine-tuning without the seed lottery."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deni._version import __version__

if TYPE_CHECKING:
    from deni.artifact import load
    from deni.sklearn import DeniClassifier
    from deni.training.trainer import PopulationTrainer

_LAZY = {"load": "deni.artifact", "DeniClassifier": "deni.sklearn", "PopulationTrainer": "deni.training.trainer"}


def __getattr__(name: str) -> Any:
    """Import what is asked for at its first use: `import deni` alone loads neither torch nor transformers."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'deni' has no attribute {name!r}")


__all__ = ["DeniClassifier", "PopulationTrainer", "__version__", "load"]
