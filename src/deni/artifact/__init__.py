"""Save, load and export a trained population: safetensors and JSON only."""

from deni.artifact.classifier import Classifier, entities_of, words_of
from deni.artifact.exporting import export
from deni.artifact.folder import ADAPTERS, BASE, CARD, FORMAT, IDS, INFO, MEMBERS, check_free, check_outside, writing
from deni.artifact.loading import load, read_info
from deni.artifact.model_card import CARDS, EXPORTS, card
from deni.artifact.saving import save

__all__ = [
    "ADAPTERS",
    "BASE",
    "CARD",
    "CARDS",
    "EXPORTS",
    "FORMAT",
    "IDS",
    "INFO",
    "MEMBERS",
    "Classifier",
    "card",
    "check_free",
    "check_outside",
    "entities_of",
    "export",
    "load",
    "read_info",
    "save",
    "words_of",
    "writing",
]
