"""New texts of labeled ones, batch by batch, each on disk before the next is begun."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deni.augmentation.base import Augmenter
from deni.augmentation.journal import Journal
from deni.data import why_no_text
from deni.data.augmented import SEED
from deni.errors import InputWarning, short
from deni.progress import track
from deni.randomness import derive


def finished_parts(journal: Journal) -> dict[int, list[str]]:
    """The new texts, keyed by the position of their labeled example."""
    return {at: own for part in journal.parts for at, own in enumerate(part["made"], start=part["at"])}


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
