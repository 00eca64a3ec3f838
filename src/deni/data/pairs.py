"""Pairs of texts, and the one text that the released code makes of a pair."""

from __future__ import annotations

import re
from dataclasses import replace

from deni.data.texts import Texts, sides
from deni.errors import InputError, short

PARTS = re.compile(r"Sentence 1: (.*?\S.*?); Sentence 2: (.*\S.*)", flags=re.S)


def joined(texts: Texts) -> Texts:
    """One text of each pair, as the released code does it.

    >>> from deni.data import Texts
    >>> joined(Texts([("It rains.", "It is wet.")], None, "file", None)).texts
    ['Sentence 1: It rains.; Sentence 2: It is wet.']
    """
    first, second = sides(texts.texts)
    return replace(texts, texts=[f"Sentence 1: {a}; Sentence 2: {b}" for a, b in zip(first, second, strict=True)])


def parted(texts: Texts) -> Texts:
    """The pairs from texts that are written so; the columns text and text_pair hold them.

    Raises:
        InputError: a text that is written otherwise, with its line.
    """
    pairs: list[tuple[str, str]] = []
    for row, text in enumerate(texts.texts):
        found = PARTS.fullmatch(str(text))
        if found is None:
            at = f"{texts.frame.index.name} {texts.frame.index[row]}"
            raise InputError(
                f"{texts.source}, {at}: {short(text)} is not a pair; write 'Sentence 1: ...; Sentence 2: ...', or give "
                "two columns with --text-column and --text-pair-column"
            )
        pairs.append((found[1], found[2]))
    first, second = zip(*pairs, strict=True)
    return replace(texts, texts=pairs, frame=texts.frame.assign(text=first, text_pair=second))
