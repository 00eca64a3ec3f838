"""Texts that come more than once: copies, contradictions, leaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from deni.data.checks.finding import MOST_EXAMPLES, Finding, examples_of
from deni.data.texts import Texts
from deni.errors import shown
from deni.tasks import TASKS
from deni.tasks.remarks import Severity, many, severity_of, share_of

IGNORED = "if case, white space and punctuation are ignored"


def duplicates(texts: Texts) -> list[Finding]:
    """Texts that repeat an earlier one, exactly or nearly."""
    exact, loose = _codes(texts.exact_keys), _codes(texts.loose_keys)
    repeats = pd.Series(exact).duplicated().to_numpy()
    # An earlier text with the same loose key, but none with the same exact key.
    near = pd.Series(loose).duplicated().to_numpy() & ~repeats
    found = []
    if count := int(repeats.sum()):
        sizes = np.bincount(exact)
        most = int(sizes.argmax())
        example = texts.shown(int(np.argmax(exact == most)))
        found.append(
            Finding(
                "duplicates",
                severity_of(count, len(texts), share=0.05, least=10),
                texts.source,
                f"{_repeat(count, len(texts))} an earlier one, most often {example} ({sizes[most]:,} times); "
                "a random split puts copies on both sides, so drop them",
                count,
                _groups(texts, exact, np.argsort(-sizes, kind="stable")[: min(MOST_EXAMPLES, int((sizes > 1).sum()))]),
            )
        )
    if count := int(near.sum()):
        # Of each group, the texts that are written in different ways.
        written = np.where(repeats, -1, loose)
        found.append(
            Finding(
                "near_duplicates",
                severity_of(count, len(texts), share=0.05, least=10),
                texts.source,
                f"{_repeat(count, len(texts))} an earlier one {IGNORED}; a random split puts such texts on both sides",
                count,
                _groups(texts, written, pd.unique(loose[near])),
            )
        )
    return found


def contradictions(texts: Texts) -> list[Finding]:
    """Equal texts with different labels; of words exactly equal ones only, for case tells names from other words."""
    if texts.labels is None:
        return []
    labels, exact, loose = _codes(texts.labels), _codes(texts.exact_keys), _codes(texts.loose_keys)
    exactly = _contradict(exact, labels)
    nearly = _contradict(loose, labels) & ~np.isin(loose, loose[exactly]) & (not TASKS[texts.task].of_words)
    found = []
    for kind, mask, codes, how in (
        ("contradictions", exactly, exact, ""),
        ("near_contradictions", nearly, loose, f" {IGNORED}"),
    ):
        groups = pd.unique(codes[mask])
        if len(groups):
            text, own = _with_labels(texts, codes, groups[0])
            found.append(
                Finding(
                    kind,
                    _unless_rare(kind, len(groups), len(texts)),
                    texts.source,
                    f"{many(len(groups))} occur{'s' * (len(groups) == 1)} with different labels{how}, such as {text} "
                    f"with {own}; "
                    "keep one label for each",
                    len(groups),
                    tuple(
                        (_rows(texts, np.flatnonzero(codes == group)), ": ".join(_with_labels(texts, codes, group)))
                        for group in groups[:MOST_EXAMPLES]
                    ),
                )
            )
    return found


def leaks(train: Texts, held_out: Texts, part: str = "test") -> list[Finding]:
    """Texts of a held-out split that are also in the training split.

    Args:
        part: what the held-out split is called.
    """
    found = []
    exact = _positions_in(train.exact_keys, held_out.exact_keys)
    loose = _positions_in(train.loose_keys, held_out.loose_keys)
    loose[exact >= 0] = -1
    also = "" if (exact >= 0).any() else "also "
    for kind, at, phrase in (
        ("leaks", exact, f"{part} texts are also in the training split"),
        ("near_leaks", loose, f"{part} texts are {also}in the training split {IGNORED}"),
    ):
        seen = np.flatnonzero(at >= 0)
        if len(seen):
            more = "other " if kind == "near_leaks" and not also else ""
            found.append(
                Finding(
                    kind,
                    _unless_rare(kind, len(seen), len(held_out)),
                    held_out.source,
                    f"{len(seen)} {more}of {len(held_out)} {phrase}, the first at {held_out.row(seen[0])}; "
                    "scores on them say little, so drop them from one side",
                    len(seen),
                    tuple(
                        (f"{held_out.row(own)} = {train.row(at[own])} of training", held_out.shown(own))
                        for own in seen[:MOST_EXAMPLES]
                    ),
                )
            )
    return found


def copies(known: Texts, texts: Texts) -> np.ndarray:
    """Which texts are also among the known ones, exactly or nearly, as `leaks` finds them: `(N,)`."""
    return _positions_in(known.loose_keys, texts.loose_keys) >= 0  # exact copies have equal loose keys, too


def equal_sides(texts: Texts) -> list[Finding]:
    """Pairs of a text and itself."""
    equal = [at for at, text in enumerate(texts.texts) if texts.pairs and text[0] == text[-1]]
    if not equal:
        return []
    message = f"{many(len(equal), 'pair')} of a text with itself; look whether the columns are the right ones"
    severity = severity_of(len(equal), len(texts), share=0.05, least=10)
    return [Finding("equal_sides", severity, texts.source, message, len(equal), examples_of(texts, equal))]


def _codes(values: Sequence[Any]) -> np.ndarray:
    """A number for each value, equal for equal ones, in the order in which they come."""
    hashable = [tuple(value) if isinstance(value, list) else value for value in values]
    return pd.factorize(pd.Series(hashable, dtype=object))[0]


def _contradict(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which texts are in a group that has more than one label."""
    kinds = pd.DataFrame({"group": codes, "label": labels}).drop_duplicates()
    return np.bincount(kinds["group"], minlength=1)[codes] > 1


def _positions_in(known: list[str], keys: list[str]) -> np.ndarray:
    """Where each key first is among the known ones, -1 where it is not."""
    wanted, first = set(keys), dict[str, int]()
    for at, key in enumerate(known):
        if key in wanted:
            first.setdefault(key, at)
    return np.array([first.get(key, -1) for key in keys])


def _unless_rare(kind: str, count: int, total: int) -> Severity:
    """A warning; of texts that are nearly the same, from 1 % on, for some of those may well be meant."""
    return severity_of(count, total, share=0.01, least=1) if kind.startswith("near_") else "warning"


def _repeat(count: int, total: int) -> str:
    return f"{share_of(count, total)} repeat{'s' if count == 1 else ''}"


def _rows(texts: Texts, positions: np.ndarray) -> str:
    more = ", ..." if len(positions) > 3 else ""
    return ", ".join(texts.row(at) for at in positions[:3]) + more


def _groups(texts: Texts, codes: np.ndarray, groups: np.ndarray) -> tuple[tuple[str, str], ...]:
    members = [np.flatnonzero(codes == group) for group in groups[:MOST_EXAMPLES]]
    return tuple((_rows(texts, own), texts.shown(own[0])) for own in members)


def _with_labels(texts: Texts, codes: np.ndarray, group: int) -> tuple[str, str]:
    """The first text of a group, and all its labels."""
    assert texts.labels is not None
    own = np.flatnonzero(codes == group)
    labels = [texts.labels[at] for at in own]
    different = {tuple(label) if isinstance(label, list) else label for label in labels}
    return texts.shown(own[0]), shown(sorted(different))
