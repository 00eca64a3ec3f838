"""What a check of texts says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from deni.data.texts import Texts

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """Something in a file that its owner should know.

    Attributes:
        kind: a name for programs, such as `contradictions`.
        severity: `error` stops training, `warning` is likely a mistake, `note` is good to know.
        source: the file.
        message: one line: what there is, and what to do.
        count: how many texts, classes or labels the message is about.
        examples: where and what, such as `("line 7", "'Where is my parcel?'")`; the first few.
    """

    kind: str
    severity: Severity
    source: str
    message: str
    count: int
    examples: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """One line with the file in front."""
        return f"{self.source}: {self.message}"


def severity_of(count: int, total: int, share: float, least: int) -> Severity:
    """A warning from this share of the texts and this many on, a note below.

    >>> severity_of(2, 100, share=0.01, least=3), severity_of(3, 100, share=0.01, least=3)
    ('note', 'warning')
    """
    return "warning" if count >= max(least, share * total) else "note"


def examples_of(texts: Texts, positions: Iterable[int]) -> tuple[tuple[str, str], ...]:
    """The first few of these texts with their rows."""
    return tuple((texts.row(at), texts.shown(at)) for at in list(positions)[:MOST_EXAMPLES])


def many(count: int, thing: str = "text") -> str:
    """A number and what is counted.

    >>> many(1), many(1200, "class")
    ('1 text', '1,200 classes')
    """
    plural = f"{thing}es" if thing.endswith("s") else f"{thing}s"
    return f"{count:,} {thing if count == 1 else plural}"


def percent(share: float) -> str:
    """A share with one decimal, never 0 for what is there.

    >>> percent(0.126), percent(0.00001), percent(0)
    ('12.6%', 'under 0.1%', '0.0%')
    """
    return "under 0.1%" if 0 < share < 0.001 else f"{share:.1%}"


def share_of(count: int, total: int) -> str:
    """How many texts, and how many in a hundred.

    >>> share_of(1, 8)
    '1 text (12.5%)'
    """
    return f"{many(count)} ({percent(count / total)})"
