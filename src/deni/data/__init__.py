"""The texts: reading, choosing, splitting."""

from deni.data.augmented import read_augmented
from deni.data.files import (
    Text,
    Texts,
    check_trainable,
    fed,
    is_conll,
    names,
    read_texts,
    sides,
    why_no_text,
    why_no_words,
)
from deni.data.labels import TASKS, first_tokens, is_iob2
from deni.data.splits import choose_balanced, strata, stratified_split

__all__ = [
    "TASKS",
    "Text",
    "Texts",
    "check_trainable",
    "choose_balanced",
    "fed",
    "first_tokens",
    "is_conll",
    "is_iob2",
    "names",
    "read_augmented",
    "read_texts",
    "sides",
    "strata",
    "stratified_split",
    "why_no_text",
    "why_no_words",
]
