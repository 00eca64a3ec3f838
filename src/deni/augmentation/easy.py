"""Easy data augmentation: single words replaced, inserted, swapped or deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import regex

from deni.augmentation.base import Augmenter
from deni.augmentation.synonyms import HOW, Thesaurus, find_thesaurus
from deni.errors import InputError, SettingError, short

WORD = regex.compile(r"(\w+(?:['’.\-]\w+)*)")  # with its marks, which `re` takes for the end of a Hindi word
TRIES = (20, 1000)  # of one operation, before another is taken; again, where none had anything new


@dataclass(frozen=True)
class Easy(Augmenter):
    """Synonym replacement, random insertion, random swap and random deletion (Wei and Zou 2019).

    Each new text has one operation, all equally likely. Unlike the original, case and punctuation stay.

    Args:
        operations: which of synonym, insert, swap and delete, with commas between them.
        alpha: the share of the words that are replaced, inserted or swapped, at least one word.
        p_delete: the probability with which a word is deleted.
        synonyms: where synonyms come from: WordNet in nltk or wn, the one that is installed, or none. Without
            synonyms, what is inserted is another word of the text.
    """

    name: ClassVar[str] = "easy"
    batch: ClassVar[int] = 64

    operations: str = "synonym,insert,swap,delete"
    alpha: float = 0.1
    p_delete: float = 0.1
    synonyms: Literal["auto", "nltk", "wn", "none"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "p_delete"):
            if not 0 < getattr(self, name) < 1:
                raise SettingError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if not set(self._names) <= set(OPERATIONS) or len(set(self._names)) < len(self._names):
            raise SettingError(
                f"operations are some of {','.join(OPERATIONS)}, each once, not {short(self.operations)}"
            )

    def start(self, texts: Sequence[str], labels: Sequence[str], n: int, seed: int) -> None:
        if "synonym" in self._names and self._thesaurus is None:
            rest = ",".join(name for name in self._names if name != "synonym")
            without = f"; or do without: --operations {rest or 'insert,swap,delete'}"
            how = "synonyms other than none" if self.synonyms == "none" else f"WordNet: {HOW['nltk']}"
            raise InputError(f"replacing words by synonyms needs {how}{without}")

    def decided_by(self) -> Mapping[str, Any]:
        needs = not {"synonym", "insert"}.isdisjoint(self._names)
        return {"thesaurus": self._thesaurus.name if needs and self._thesaurus else None}

    def make(
        self, texts: Sequence[str], labels: Sequence[str], n: int, generators: Sequence[np.random.Generator]
    ) -> list[list[str]]:
        return [self._variants(text, n, draw) for text, draw in zip(texts, generators, strict=True)]

    @cached_property
    def _names(self) -> list[str]:
        return self.operations.split(",")

    @cached_property
    def _thesaurus(self) -> Thesaurus | None:
        return find_thesaurus(self.synonyms)

    def _variants(self, text: str, n: int, draw: np.random.Generator) -> list[str]:
        """Up to n texts that differ from the text and from each other in more than white space."""
        pieces = WORD.split(text)  # gap, word, gap, ..., word, gap
        made: dict[str, None] = {}
        while len(made) < n and (new := self._variant(pieces, {" ".join(text.split()), *made}, draw)) is not None:
            made[new] = None
        return list(made)

    def _variant(self, pieces: list[str], old: set[str], draw: np.random.Generator) -> str | None:
        """A new text; None where no operation has one."""
        order = draw.permutation(len(self._names))
        for at, tries in ((at, tries) for tries in TRIES for at in order):
            for _ in range(tries):
                new = " ".join("".join(OPERATIONS[self._names[at]](self, list(pieces), draw)).split())
                if new and new not in old:
                    return new
        return None

    def _synonyms(self, word: str) -> list[str]:
        known = self._thesaurus.of(word) if self._thesaurus is not None and len(word) > 1 else []
        return [_in_the_case_of(word, each) for each in known]

    def _count(self, pieces: list[str]) -> int:
        return max(1, int(self.alpha * (len(pieces) // 2)))

    def _replace(self, pieces: list[str], draw: np.random.Generator) -> list[str]:
        """Put a synonym for some words that are no stop words, each wherever it stands."""
        left = self._count(pieces)
        words = list(dict.fromkeys(_content(pieces)))
        for at in draw.permutation(len(words)):
            known = self._synonyms(words[at])
            if left and known:
                chosen = known[draw.integers(len(known))]
                pieces = [chosen if piece == words[at] else piece for piece in pieces]
                left -= 1
        return pieces

    def _insert(self, pieces: list[str], draw: np.random.Generator) -> list[str]:
        """Put synonyms of words of the text, or those words themselves, anywhere between its words."""
        words = _content(pieces) or pieces[1::2]
        if not words:
            return pieces
        for _ in range(self._count(pieces)):
            word = words[draw.integers(len(words))]
            known = self._synonyms(word) or [word]
            new = known[draw.integers(len(known))]
            at = 1 + 2 * int(draw.integers(len(pieces) // 2 + 1))
            if at < len(pieces):
                pieces[at:at] = [new, " "]
            else:
                pieces[-1:-1] = [" ", new]  # after the last word, in front of what ends the text
        return pieces

    def _swap(self, pieces: list[str], draw: np.random.Generator) -> list[str]:
        """Exchange words pairwise; what is between them stays."""
        for _ in range(self._count(pieces) if len(pieces) > 3 else 0):
            one, two = 1 + 2 * draw.choice(len(pieces) // 2, 2, replace=False)
            pieces[one], pieces[two] = pieces[two], pieces[one]
        return pieces

    def _delete(self, pieces: list[str], draw: np.random.Generator) -> list[str]:
        """Drop each word with the probability `p_delete`; one always stays."""
        words = len(pieces) // 2
        stay = draw.random(words) >= self.p_delete
        if words and not stay.any():
            stay[draw.integers(words)] = True
        kept = pieces[:1]
        for word, gap, stays in zip(pieces[1::2], pieces[2::2], stay, strict=True):
            if stays:
                kept += [word, gap]
            else:
                kept[-1] = kept[-1].rstrip() + gap if gap else kept[-1]  # no space in front of a comma
        return kept


OPERATIONS: dict[str, Callable[[Easy, list[str], np.random.Generator], list[str]]] = {
    "synonym": Easy._replace,
    "insert": Easy._insert,
    "swap": Easy._swap,
    "delete": Easy._delete,
}


def _content(pieces: list[str]) -> list[str]:
    """The words that are no stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return [word for word in pieces[1::2] if word.lower() not in ENGLISH_STOP_WORDS]


def _in_the_case_of(word: str, synonym: str) -> str:
    if word.isupper():
        return synonym.upper()
    return synonym[:1].upper() + synonym[1:] if word[:1].isupper() else synonym
