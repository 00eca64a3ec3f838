"""The cards of strategies in the navigation, and the table of all, made from their classes when the site is built."""

from __future__ import annotations

import inspect
from typing import Any

from deni.strategies import STRATEGIES

PAGE = "strategies/index.md"
MARK = "<!-- all strategies -->"


def on_config(config: Any) -> Any:
    """Puts the cards into the navigation, those of the paper first."""
    place = next(item for item in config.nav if "Strategies" in item)
    place["Strategies"] = [PAGE, *({name: f"strategies/{name}.md"} for name in STRATEGIES)]
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts the table where the page has its mark."""
    return markdown.replace(MARK, table()) if page.file.src_uri == PAGE else markdown


def table() -> str:
    """Each strategy with the first sentence of its class, and when to take it."""
    rows = ["| strategy | what it does | when to take it |", "| --- | --- | --- |"]
    for name, cls in STRATEGIES.built_in().items():
        text = (inspect.getdoc(cls) or "").partition("\n")[0].replace("|", "\\|")
        rows.append(f"| [{name}]({name}.md) | {text} | {vars(cls).get('when', '')} |")
    return "\n".join(rows)
