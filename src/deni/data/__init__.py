"""The texts: reading, choosing, splitting."""

from deni.data.augmented import read_augmented
from deni.data.files import TASKS, Text, Texts, check_trainable, names, read_texts, sides, why_no_text
from deni.data.read import local_file, read_data
from deni.data.splits import choose_balanced, choose_stratified, strata, stratified_split
from deni.data.tasks import DATASETS, NamedDataset

__all__ = [
    "DATASETS",
    "TASKS",
    "NamedDataset",
    "Text",
    "Texts",
    "check_trainable",
    "choose_balanced",
    "choose_stratified",
    "local_file",
    "names",
    "read_augmented",
    "read_data",
    "read_texts",
    "sides",
    "strata",
    "stratified_split",
    "why_no_text",
]
