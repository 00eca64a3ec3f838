"""The texts: reading, choosing, splitting."""

from deni.data.augmented import read_augmented
from deni.data.files import Text, Texts, check_trainable, read_texts, sides, why_no_text
from deni.data.splits import choose_balanced, stratified_split

__all__ = [
    "Text",
    "Texts",
    "check_trainable",
    "choose_balanced",
    "read_augmented",
    "read_texts",
    "sides",
    "stratified_split",
    "why_no_text",
]
