"""Labels of the training texts that are likely wrong, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deni.labeling.checking import ListedLabel
from deni.report.training.tiles import cut
from deni.tasks.remarks import percent

MOST = 30  # labels on the page


def shown_labels(found: Sequence[ListedLabel] | None) -> list[dict[str, Any]]:
    """The first of them, as the page shows them."""
    return [
        {
            "row": each.row,
            "text": cut(each.text, 400),
            "word": None if each.word is None else cut(each.word, 60),
            "given": cut(each.given, 60),
            "suggested": cut(each.suggested, 60),
            "confidence": "" if each.confidence is None else percent(each.confidence),
        }
        for each in (found or ())[:MOST]
    ]
