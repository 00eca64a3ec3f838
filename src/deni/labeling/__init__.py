"""Which labels are likely wrong, and what to label next."""

from deni.labeling.suggesting import Suggestions, suggest
from deni.labeling.wrong import WrongLabel, find_wrong_labels

__all__ = ["Suggestions", "WrongLabel", "find_wrong_labels", "suggest"]
