"""The code blocks of a Markdown page, each with what it says about itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*$", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block.

    Args:
        language: behind its fence; empty for one without, or one that is only indented.
        code: its text.
        page, line: where the text begins, counted from 1.
        reason: why it is not run, from the comment in front of it.
    """

    language: str
    code: str
    page: Path
    line: int
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The words of each command of a shell block, without comments; `a && b` is two."""
        for line in self.code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                at = words.index("&&")
                yield words[:at]
                words = words[at + 1 :]
            if words:
                yield words


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """All blocks of a page, in order, also those in lists and those that are only indented."""
    found, reason = [], ""
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8") if text is None else text):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            line = token.map[0] + (2 if token.type == "fence" else 1)
            found.append(Block(token.info.strip(), token.content, page, line, reason))
        comment = NOT_RUN.search(token.content) if token.type == "html_block" else None
        reason = " ".join(comment[1].split()) if comment else ""
    return found
