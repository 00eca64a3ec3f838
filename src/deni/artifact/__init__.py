"""Save, load and export a trained population: safetensors and JSON only."""

from deni.artifact.classifier import Classifier
from deni.artifact.exporting import export
from deni.artifact.folder import FORMAT, INFO, check_free, check_outside
from deni.artifact.info import describe
from deni.artifact.loading import load, read_info
from deni.artifact.saving import save

__all__ = [
    "FORMAT",
    "INFO",
    "Classifier",
    "check_free",
    "check_outside",
    "describe",
    "export",
    "load",
    "read_info",
    "save",
]
