"""The findings of a check of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deni.data.texts import Texts
from deni.tasks.remarks import Remark, Severity

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """A finding about a file.

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

    @classmethod
    def of(cls, remark: Remark, texts: Texts) -> Finding:
        """A task's findings about the labels of these texts."""
        return cls(remark.kind, remark.severity, texts.source, remark.message, remark.count)

    def __str__(self) -> str:
        """One line with the file in front."""
        return f"{self.source}: {self.message}"


def examples_of(texts: Texts, positions: Iterable[int]) -> tuple[tuple[str, str], ...]:
    """The first few of these texts with their rows."""
    return tuple((texts.row(at), texts.shown(at)) for at in list(positions)[:MOST_EXAMPLES])
