"""Save, load and export a trained population: safetensors and JSON only."""

from deni.artifact.classifier import Classifier
from deni.artifact.exporting import export
from deni.artifact.folder import FORMAT
from deni.artifact.info import describe
from deni.artifact.loading import load, read_info
from deni.artifact.saving import save
from deni.outputs import INFO

__all__ = [
    "FORMAT",
    "INFO",
    "Classifier",
    "describe",
    "export",
    "load",
    "read_info",
    "save",
]
