"""Fine-tuning without the seed lottery."""

from deni._version import __version__

__all__ = ["__version__"]
