"""Remarks about labels before training, and how counts are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Remark:
    """A finding about the labels of a file; see `deni.data.checks.finding.Finding`."""

    kind: str
    severity: Severity
    message: str
    count: int


def severity_of(count: int, total: int, share: float, least: int) -> Severity:
    """A warning from this share of the texts and this many on, a note below.

    >>> severity_of(2, 100, share=0.01, least=3), severity_of(3, 100, share=0.01, least=3)
    ('note', 'warning')
    """
    return "warning" if count >= max(least, share * total) else "note"


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
