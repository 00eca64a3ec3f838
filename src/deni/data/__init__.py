"""The texts: reading, choosing, splitting, writing.

A name is imported at its first use, since most of them need pandas, which takes a third of a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deni.data.augmented import read_augmented
    from deni.data.checks import Finding, check_trainable
    from deni.data.files import read_texts
    from deni.data.formats import is_conll
    from deni.data.load import read_data
    from deni.data.named_datasets import DATASETS, NamedDataset
    from deni.data.naming import check_data, check_split, local_file
    from deni.data.splits import choose_balanced, choose_stratified, strata, stratified_split
    from deni.data.texts import Text, Texts, fed, names, sides
    from deni.data.values import why_no_text, why_no_words
    from deni.data.write import check_table, write_table

_NAMES = {
    "augmented": "read_augmented",
    "checks": "Finding check_trainable",
    "files": "read_texts",
    "formats": "is_conll",
    "load": "read_data",
    "named_datasets": "DATASETS NamedDataset",
    "naming": "check_data check_split local_file",
    "splits": "choose_balanced choose_stratified strata stratified_split",
    "texts": "Text Texts fed names sides",
    "values": "why_no_text why_no_words",
    "write": "check_table write_table",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "DATASETS",
    "Finding",
    "NamedDataset",
    "Text",
    "Texts",
    "check_data",
    "check_split",
    "check_table",
    "check_trainable",
    "choose_balanced",
    "choose_stratified",
    "fed",
    "is_conll",
    "local_file",
    "names",
    "read_augmented",
    "read_data",
    "read_texts",
    "sides",
    "strata",
    "stratified_split",
    "why_no_text",
    "why_no_words",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
