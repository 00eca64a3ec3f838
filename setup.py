"""The README as the package's page shows it: links inside the repository lead to the repository."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!\w+:|#)([^)\s]+)\)")


def description() -> str:
    """README.md with absolute links: files as the forge shows them, images as they are."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src/deni/_version.py").read_text(encoding="utf-8"))
    assert version is not None

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1] else "blob"
        return f"{link[1]}{link[2]}({urls['Source']}/{kind}/v{version[1]}/{link[3]})"

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"^<!-- .* -->\n", "", LINK.sub(absolute, text), flags=re.M)


if __name__ == "__main__":
    setup(long_description=description(), long_description_content_type="text/markdown")
