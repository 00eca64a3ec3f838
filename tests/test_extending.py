"""docs/extending.md, followed to the letter: what a section tells to type is typed into one file and run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deni
from tests.helpers import forked
from tests.helpers.code_blocks import blocks_of

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")[1:]}


def python_of(section):
    """The Python of a section, block by block; what is a test of its own is not part of the file."""
    return [block.code for block in blocks_of(PAGE, section) if block.language == "python"]


def run(*words, folder, path=None):
    env = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("heading", [heading for heading, text in SECTIONS.items() if python_of(text)])
def test_a_section_typed_into_one_file_runs(heading, tickets, model_folder, tmp_path, monkeypatch):
    code = [block for block in python_of(SECTIONS[heading]) if "def test_" not in block]
    shutil.copy(tickets, tmp_path / "tickets.csv")
    future = [line for block in code for line in re.findall("^from __future__ .*$", block, re.MULTILINE)]
    assert len(future) <= 1  # which must come first, so each section has one file that is begun with it
    (tmp_path / "mine.py").write_text("\n\n".join(code).replace('"minilm"', repr(model_folder)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    forked.run("import runpy; runpy.run_path('mine.py', run_name='__main__')")


def test_the_strategy_in_the_library_passes_its_test(tmp_path):
    """In a copy of the package: the file and its test, under the names that the page gives them."""
    shutil.copytree(Path(deni.__file__).parent, tmp_path / "src" / "deni", ignore=shutil.ignore_patterns("__pycache__"))
    section = SECTIONS["A strategy"]
    (file,) = re.findall(r"\*\*1\. The file\*\* `(.+?)`", section)
    (test,) = re.findall(r"\*\*2\. A test of values\*\*, `(.+?)`", section)
    code, _, cases = python_of(section)
    for name, text in ((file, code), (test, cases)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", test, folder=tmp_path, path=tmp_path / "src")
    code = "import deni; assert str(deni.MiddleFork(members=3).schedule(100)) == '1x50 3x10 1x40'"
    run("-c", code, folder=tmp_path, path=tmp_path / "src")


def test_every_section_with_a_class_is_tried():
    assert {heading for heading, text in SECTIONS.items() if python_of(text)} >= {
        "A strategy",
        "A tuning",
        "A twin",
        "A task",
        "A dataset",
    }
