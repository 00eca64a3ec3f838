"""The texts: reading, choosing, splitting, writing."""

from deni.data.augmented import read_augmented
from deni.data.checks import Finding, check_trainable
from deni.data.files import read_texts
from deni.data.formats import is_conll
from deni.data.load import local_file, read_data
from deni.data.named_datasets import DATASETS, NamedDataset
from deni.data.splits import choose_balanced, choose_stratified, strata, stratified_split
from deni.data.texts import Text, Texts, fed, names, sides
from deni.data.values import why_no_text, why_no_words
from deni.data.write import check_output, format_of, write_table

__all__ = [
    "DATASETS",
    "Finding",
    "NamedDataset",
    "Text",
    "Texts",
    "check_output",
    "check_trainable",
    "choose_balanced",
    "choose_stratified",
    "fed",
    "format_of",
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
