"""Links of the documentation to other files of the repository: to their pages in the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from deni.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "src/deni/__init__.py": "api/index.md",
    **{f"src/deni/cli/{name}.py": f"commands/{name}.md" for name in COMMANDS},
    "src/deni/cli/__init__.py": "commands/index.md",
}
RESULTS = "results/"  # its pages are shown as pages, and kept out of the search: they repeat the same words
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds a page for each file outside the documentation that a page links to."""
    from mkdocs.structure.files import File

    added = set()
    outside = [*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md", *sorted((ROOT / RESULTS).glob("*.md"))]
    for page in [*outside, *sorted((ROOT / "docs").rglob("*.md"))]:
        for link, _ in LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            name = target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else ""
            if target.is_file() and _shown(name) and name not in added:
                added.add(name)
                files.append(File.generated(config, f"files/{name}.md", content=_listing(target, name)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns links that leave the documentation into links of the site."""
    shown = posixpath.dirname(f"docs/{page.file.src_uri}")
    here = {"docs/files": "", f"docs/files/{RESULTS}".rstrip("/"): RESULTS}.get(shown, shown)  # in the repository

    def turned(match: re.Match[str]) -> str:
        name, anchor = posixpath.normpath(posixpath.join(here, match[1])), match[2] or ""
        if name.startswith("src/deni/") and name.endswith(".py") and name not in PAGES:
            module = name.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            return f"][{module}]"
        target = PAGES.get(name) or (f"files/{name}.md" if _shown(name) and (ROOT / name).is_file() else None)
        if target is None and here != shown and name.startswith("docs/"):
            target = name.removeprefix("docs/")
        if target is None:
            return match[0]
        return f"]({posixpath.relpath(f'docs/{target}', shown)}{anchor})"

    return LINK.sub(turned, markdown)


def _shown(name: str) -> bool:
    """Whether a file of the repository gets a page: Markdown as it reads, others as text."""
    return bool(name) and name not in PAGES and not name.startswith(("docs/", "src/", ".."))


def _listing(file: Path, name: str) -> str:
    if file.suffix == ".md":
        head = "---\nsearch: {exclude: true}\n---\n\n" if name.startswith(RESULTS) else ""
        return head + file.read_text(encoding="utf-8")
    language = {".py": "python", ".yaml": "yaml", ".json": "json", ".toml": "toml"}.get(file.suffix, "text")
    return f"# {name}\n\n````{language}\n{file.read_text(encoding='utf-8').rstrip()}\n````\n"
