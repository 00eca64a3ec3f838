"""What the theme leaves out for screen readers and keyboards: names of dialogs, and tables that scroll by keys."""

from __future__ import annotations

from typing import Any

ADDED = {
    '<div class="md-search" data-md-component="search" role="dialog">': (
        '<div class="md-search" data-md-component="search" role="dialog" aria-label="Search">'
    ),
}


def on_post_page(output: str, **_: Any) -> str:
    """Adds them to the page."""
    for before, after in ADDED.items():
        output = output.replace(before, after)
    return output
