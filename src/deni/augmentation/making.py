"""New texts of labeled ones, batch by batch, each on disk before the next is begun."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deni.augmentation.base import Augmenter
from deni.augmentation.journal import Journal
from deni.data import why_no_text
from deni.data.augmented import SEED
from deni.errors import InputWarning, short, shown
from deni.progress import track
from deni.randomness import derive


def finished_parts(journal: Journal, count: int, n: int) -> dict[int, list[str]]:
    """The new texts, keyed by the position of their labeled example.

    Args:
        count: how many labeled examples there are.
        n: how many new texts each has at most.

    Raises:
        InputError: a part that is not as `make_texts` writes it; the message names file and line.
    """
    made: dict[int, list[str]] = {}
    for line, part in enumerate(journal.parts, start=2):  # the first says which run it is
        if why := _why_no_part(part, count, n):
            raise journal.wrong(why, line)
        made.update(enumerate(part["made"], start=part["at"]))
    return made


def _why_no_part(part: Mapping[str, Any], count: int, n: int) -> str | None:
    """The reason why an object is no finished part; None if it is one."""
    at, made = part.get("at"), part.get("made")
    if part.keys() != {"at", "made"}:
        return f"{f'the keys {shown(part)}' if part else 'no keys'} where at and made were expected"
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < count:
        return f"at is {short(at)} where a position from 0 to {count - 1} was expected"
    if not isinstance(made, list) or not all(isinstance(own, list) for own in made):
        return f"made is {short(made)} where lists of texts were expected"
    if not 1 <= len(made) <= count - at:
        return f"made has {len(made)} lists where 1 to {count - at} were expected"
    for own in made:
        if len(own) > n:
            return f"{len(own)} texts of one where at most {n} were expected"
        for text in own:
            if (why := why_no_text(text)) is not None:
                return f"{short(text)}: {why}"
    return None


def make_texts(
    augmenter: Augmenter,
    pairs: Sequence[tuple[str, str]],
    n: int,
    source: int,
    journal: Journal,
    made: dict[int, list[str]],
    progress: bool,
) -> None:
    """Make what is not there yet; always in the same batches, on which a model's rounding depends."""
    batches = [range(at, min(at + augmenter.batch, len(pairs))) for at in range(0, len(pairs), augmenter.batch)]
    left = [batch for batch in batches if not made.keys() >= set(batch)]
    if not left:
        return
    texts, labels = [text for text, _ in pairs], [label for _, label in pairs]
    augmenter.start(texts, labels, n, source)
    try:
        journal.begin()
        for batch in track(left, "augment", len(batches), len(batches) - len(left), "batches", progress):
            own = slice(batch.start, batch.stop)
            generators = [np.random.default_rng(derive(source, *pair)) for pair in pairs[own]]
            new = augmenter.make(texts[own], labels[own], n, generators)
            kept = [_kept(text, candidates, n) for text, candidates in zip(texts[own], new, strict=True)]
            journal.add({"at": batch.start, "made": kept})
            made.update(zip(batch, kept, strict=True))
    finally:
        augmenter.finish()


def _kept(text: str, candidates: Iterable[str], n: int) -> list[str]:
    """The first n that are texts, differ from the labeled one in more than white space, and from each other."""
    found = {" ".join(text.split()): text}
    for each in candidates:
        if why_no_text(each) is None:
            found.setdefault(" ".join(each.split()), each)
    return list(found.values())[1 : n + 1]


def as_frame(pairs: Sequence[tuple[str, str]], made: dict[int, list[str]]) -> pd.DataFrame:
    """The new texts with the text and the label that they were made from, as `deni augment` writes them."""
    rows = [(text, new, label) for at, (text, label) in enumerate(pairs) for new in made[at]]
    return pd.DataFrame(rows, columns=[SEED, "text", "label"])


def warn_of_missing(texts: Sequence[str], made: dict[int, list[str]], n: int, output: str | Path) -> None:
    """Warn where there are fewer than n new texts of a labeled one."""
    poor = [at for at in made if len(made[at]) < n]
    if poor:
        missing = sum(n - len(made[at]) for at in poor)
        warnings.warn(
            f"{output}: {missing} of {n * len(texts)} new texts are missing, for {len(poor)} of {len(texts)} labeled "
            f"ones, such as {short(texts[poor[0]])} with {len(made[poor[0]])}; training refuses a text with fewer than "
            "--augmentations: add some by hand",
            InputWarning,
            stacklevel=3,
        )
