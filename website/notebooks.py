"""The notebooks as pages of the site: their texts and their code, without what a notebook needs beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "notebooks"
# In the order of the navigation.
TITLES = {
    "quick_start": "Quick start",
    "papers_method": "The paper's method",
    "how_unstable": "How unstable is my fine-tune?",
    "labeling_loop": "A labeling loop",
    "study_and_report": "Study and report",
}


def on_config(config: Any) -> Any:
    """Puts the pages into the navigation."""
    place = next(item for item in config.nav if "Notebooks" in item)
    place["Notebooks"] = [{title: f"notebooks/{name}.md"} for name, title in TITLES.items()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages, and the notebooks themselves for download."""
    from mkdocs.structure.files import File

    for name in TITLES:
        text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
        files.append(File.generated(config, f"notebooks/{name}.md", content=page(name, json.loads(text))))
        files.append(File.generated(config, f"notebooks/{name}.ipynb", content=text))
    return files


def page(name: str, notebook: dict[str, Any]) -> str:
    """A notebook in Markdown."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    parts.insert(1, f"[Download the notebook]({name}.ipynb)")
    return "\n\n".join([*parts, ""])
