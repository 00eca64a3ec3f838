"""The pictures of docs/gallery.md: what commands print, and the pages that they write, in light and dark.

Every command runs on the demo texts (the study is one of results/), in a folder of its own. It takes some minutes, the
package Pillow, and Chromium.

python website/gallery.py
python website/gallery.py --only train --folder made/
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images" / "gallery"
COLUMNS = 88
BAR = re.compile(r"\w+ *(\x1b\[[\d;]*m)*\u2501")  # of progress, which a terminal erases
COLORS = 48  # of a screenshot's palette
WIDTH, HEIGHT = 1000, 1250
# In place of rich's own frame, which fetches its font from another host.
FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{font-family: ui-monospace, Consolas, Menlo, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px}}
.{unique_id}-title {{font-size: 18px; font-weight: bold; font-family: ui-monospace, Consolas, Menlo, \
"DejaVu Sans Mono", monospace}}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


@dataclass(frozen=True)
class Picture:
    """What one command prints (an SVG), or the page that it writes (a PNG in light and one in dark)."""

    name: str
    command: str
    page: str = ""  # the file to look at; else what is printed
    before: str = ""  # what runs first
    hidden: str = ""  # flags without which the command runs in the same way, but not as fast or as quietly


TRAIN = "deni train tickets.csv --test test.csv --tuning lora --strategy deni --epochs 8 --output model/"
PICTURES = (
    Picture("inspect", "deni inspect tickets.csv --test test.csv"),
    Picture("train", TRAIN, hidden="--no-progress --overwrite"),
    Picture("report", "", "model/report.html"),  # of the command before
    Picture(
        "compare",
        "deni compare auto/ model/ test.csv --output changed.csv",
        before="deni train tickets.csv --test test.csv --output auto/ --no-progress --overwrite",
        hidden="--overwrite",
    ),
    Picture("diagnose", "deni diagnose messages.csv --labeled 60 --epochs 5", hidden="--no-progress"),
    Picture("study", "deni report results/confirmation.parquet --output study.html", "study.html"),
)


def write_files(folder: Path) -> None:
    """The files that the commands name."""
    from deni.data.demo import demo_files

    tickets, test = (pd.read_csv(file) for file in demo_files())
    tickets.to_csv(folder / "messages.csv", index=False)
    tickets.head(60).to_csv(folder / "tickets.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    (folder / "results").mkdir(exist_ok=True)
    shutil.copy(ROOT / "results" / "confirmation.parquet", folder / "results")


def run(command: str, folder: Path) -> str:
    """What a terminal of 88 columns gets, with colors.

    Raises:
        SystemExit: the command failed.
    """
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    words = [str(Path(sys.executable).with_name("deni")), *shlex.split(command)[1:]]
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=subprocess.STDOUT
    ) as process:
        os.close(slave)
        output = b"".join(iter(lambda: _read(master), b""))
    os.close(master)
    lines = output.decode().replace("\r\n", "\n").split("\n")
    text = "\n".join(line for line in lines if not BAR.search(line))
    if process.returncode:
        raise SystemExit(f"{command}: {text}")
    return text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the last program at this terminal has ended
        return b""


def draw_terminal(title: str, output: str) -> str:
    """The SVG of a terminal."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(f"$ {title}\n{output.rstrip()}"))
    return console.export_svg(title="", theme=MONOKAI, code_format=FRAME, unique_id="terminal")


def shoot(page: Path, name: str) -> Iterator[Path]:
    """Screenshots of the top of a page, light and dark, with few colors."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            tab.goto(page.as_uri())
            tab.wait_for_selector("body[data-drawn]")
            file = IMAGES / f"{name}-{scheme}.png"
            tab.screenshot(path=file)
            Image.open(file).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)
            yield file
        browser.close()


def main() -> None:
    """Makes all pictures, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[each.name for each in PICTURES])
    parser.add_argument("--folder", type=Path, help="where commands run and what they write is found again")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    IMAGES.mkdir(parents=True, exist_ok=True)
    write_files(folder)
    for picture in PICTURES:
        if given.only and picture.name not in given.only:
            continue
        make(picture, folder)


def make(picture: Picture, folder: Path) -> None:
    """One picture, from what is in the folder where it can be."""
    if picture.page:
        if picture.command:
            run(f"{picture.command} --overwrite", folder)
        made = [*shoot(folder / picture.page, picture.name)]
    else:
        if picture.before:
            run(picture.before, folder)
        output = run(f"{picture.command} {picture.hidden}", folder)
        made = [IMAGES / f"{picture.name}.svg"]
        made[0].write_text(draw_terminal(picture.command, output), encoding="utf-8")
    for file in made:
        print(f"wrote {file.relative_to(ROOT)}, {file.stat().st_size // 1024} KiB", flush=True)


if __name__ == "__main__":
    main()
