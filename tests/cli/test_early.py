"""What is wrong with an output is said before anything large is imported."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
from deni.cli import main

try:
    main(sys.argv[1:])
except SystemExit as end:
    print(end.code, sorted({"torch", "transformers", "peft", "sklearn"} & set(sys.modules)))
"""


@pytest.fixture
def taken(tmp_path):
    """A file and a folder that are there, and a folder that nobody may write into."""
    (tmp_path / "new.csv").write_text("text,label\nmy parcel,delivery\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    return tmp_path


CALLS = {
    "train, no output": (("train", "new.csv"), "Missing option '--output'"),
    "train, an output that is there": (
        ("train", "new.csv", "--output", "model"),
        "model exists: choose another folder",
    ),
    "train, an output below a file": (("train", "new.csv", "--output", "file/model"), "is not writable"),
    "train, an output with the texts": (("train", "model/t.csv", "--output", "model", "--overwrite"), "is in model"),
    "train, a mistyped strategy": (("train", "new.csv", "--strategy", "deno", "--output", "m"), "did you mean deni?"),
    "predict, an output that is there": (("predict", "model", "new.csv", "--output", "new.csv"), "new.csv exists"),
    "predict, an output below a file": (("predict", "model", "new.csv", "--output", "file/o.csv"), "is not writable"),
    "augment, an output that is there": (("augment", "new.csv", "--output", "new.csv"), "new.csv exists"),
    "export, an output that is there": (("export", "model", "file"), "file exists"),
    "report, no store": (("report", "nothing.db"), "nothing.db: no such store"),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_wrong_output_is_said_before_anything_large_is_imported(taken, what):
    words, said = CALLS[what]
    (taken / "model" / "t.csv").write_text("text,label\n")
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, cwd=taken, env=dict(os.environ)
    )
    assert said in done.stderr, done.stderr
    assert done.stdout.strip() == "2 []"
