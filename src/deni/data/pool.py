"""Texts without labels to learn from: what repeats, is labeled or is measured on is left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deni.data import keys
from deni.data.checks.copies import copies
from deni.data.load import read_data
from deni.data.texts import Text, Texts
from deni.errors import InputError, SettingError
from deni.tasks import TASKS
from deni.tasks.remarks import many

# Why a text is left out, in words; the first that holds is counted.
EMPTY, TEST, DEV, LABELED, REPEATED = "empty", "test", "dev", "labeled", "repeated"
REASONS = {
    EMPTY: "empty",
    TEST: "in the test split",
    DEV: "in the dev split",
    LABELED: "labeled already",
    REPEATED: "repeated",
}


@dataclass(frozen=True)
class Pool:
    """Texts without labels that can serve.

    Args:
        texts: without labels.
        read: how many texts there were.
        left_out: reason, one of `REASONS` -> how many; only reasons that there were.
    """

    texts: Texts
    read: int
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        """Count the texts that can serve."""
        return len(self.texts)


def make_pool(
    texts: Texts,
    labeled: Texts | None = None,
    *,
    test: Texts | None = None,
    dev: Texts | None = None,
    digests: Iterable[str] = (),
    augmented: Mapping[str, Sequence[str]] | None = None,
    empty: int = 0,
) -> Pool:
    """Leave out what a model must not learn from, or would learn twice.

    Copies are texts that are equal but for case, white space and punctuation, as `deni inspect` finds them.

    Args:
        texts: the pool; labels that it has are not looked at.
        labeled: examples that are trained on with their labels.
        test, dev: examples that are measured on: the leak guard.
        digests: of further labeled texts, see `deni.data.keys.digest`; these are found where they are exactly equal.
        augmented: further texts, by the text that they were made from, see `deni.data.read_augmented`. What was made
            from a text that is measured on is left out with it.
        empty: rows of the file that had no text, for the count.

    Raises:
        InputError: nothing is left, or texts where pairs are needed.

    >>> texts = Texts(["Where is it?", "where is it", "my card"], None, "pool.csv", None)
    >>> pool = make_pool(texts, test=Texts(["My card!"], ["billing"], "test.csv", None))
    >>> pool.texts.texts, pool.read, dict(pool.left_out)
    (['Where is it?'], 3, {'test': 1, 'repeated': 1})
    """
    for other in (labeled, test, dev):
        if other is not None and other.pairs != texts.pairs:
            what = "pairs of texts" if other.pairs else "single texts"
            raise InputError(f"{texts.source}: {other.source} has {what}, and so must the pool: name its columns")
    made = [(seed, text) for seed, each in (augmented or {}).items() for text in each]
    unlabeled = dataclasses.replace(texts, labels=None, frame=None if made else texts.frame, order=())
    pool = _with(unlabeled, [text for _, text in made])
    sources = _with(unlabeled, [seed for seed, _ in made])  # of each text what it was made from, itself if from nothing
    known = set(digests)
    checks = {
        TEST: copies(test, pool) | copies(test, sources) if test is not None else None,
        DEV: copies(dev, pool) | copies(dev, sources) if dev is not None else None,
        LABELED: copies(labeled, pool) if labeled is not None else None,
    }
    own = [keys.digest(text) for text in pool.texts] if known else None
    counts: Counter[str] = Counter({EMPTY: empty} if empty else {})
    kept, seen = [], set[str]()
    for row, key in enumerate(pool.loose_keys):
        why = EMPTY if not "".join(pool.texts[row]).strip() else None
        why = why or next((name for name, found in checks.items() if found is not None and found[row]), None)
        if why is None and own is not None and own[row] in known:
            why = LABELED
        if why is None and key in seen:
            why = REPEATED
        if why is None:
            seen.add(key)
            kept.append(row)
        else:
            counts[why] += 1
    read = len(pool) + empty
    if not kept:
        raise InputError(f"{texts.source}: none of {many(read)} can serve ({told(counts)}): give others")
    return Pool(pool.select(kept), read, {name: counts[name] for name in REASONS if counts[name]})


def read_pool(file: str | Path, labeled: Texts, **options: Any) -> tuple[Texts, int]:
    """The texts of a file as labeled ones are, pairs or words, and how many rows have none.

    Args:
        options: of `deni.data.read_data`.
    """
    empty: list[int] = []
    texts = read_data(file, **options, labels=False, pairs=labeled.pairs, task=labeled.task, on_blank=empty.append)
    return texts, sum(empty)


def sentence(left_out: Mapping[str, int], read: int, used: int, held_out: int = 0) -> str:
    """How many texts of a pool are used, and why others are not.

    >>> sentence({"test": 2, "repeated": 1}, read=10, used=5, held_out=1)
    '5 of 10 texts used; left out: 2 in the test split, 1 repeated; 1 held out, 1 more than the steps allow'
    """
    rest = read - used - held_out - sum(left_out.values())
    others = {"held out": held_out, "more than the steps allow": rest}
    unused = ", ".join(f"{count:,} {why}" for why, count in others.items() if count)
    why = [f"left out: {told(left_out)}"] if left_out else []
    return "; ".join([f"{used:,} of {many(read)} used", *why, *([unused] if unused else [])])


def told(counts: Mapping[str, int]) -> str:
    """How many texts are left out for each reason."""
    return ", ".join(f"{counts[name]:,} {why}" for name, why in REASONS.items() if counts.get(name))


def _with(texts: Texts, more: Sequence[str]) -> Texts:
    """Texts of a pool, and further ones as it has its own."""
    if more and texts.pairs:
        raise SettingError("augmented texts are single ones, and the pool has pairs: omit them")
    added: list[Text] = [tuple(each.split()) for each in more] if TASKS[texts.task].of_words else list(more)
    return dataclasses.replace(texts, texts=[*texts.texts, *added])
