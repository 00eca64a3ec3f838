"""A wrong output, or a file that is not there, is said before anything large is imported."""

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
    print(end.code, sorted({"torch", "transformers", "peft", "sklearn", "pandas"} & set(sys.modules)))
"""


@pytest.fixture
def taken(tmp_path):
    """A file and a folder that are there, and a folder that nobody may write into."""
    (tmp_path / "new.csv").write_text("text,label\nmy parcel,delivery\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
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
    "predict, an output that is there": (
        ("predict", "model", "new.csv", "--output", "new.csv"),
        "new.csv is what is read",
    ),
    "predict, an output below a file": (("predict", "model", "new.csv", "--output", "file/o.csv"), "is not writable"),
    "augment, an output that is there": (("augment", "new.csv", "--output", "new.csv"), "new.csv exists"),
    "export, an output that is there": (("export", "model", "file"), "file exists"),
    "report, no store": (("report", "nothing.db"), "nothing.db: no such store"),
    "study status, no store": (("study", "status", "nothing.db"), "nothing.db: no such store"),
    "study retry, no store": (("study", "retry", "nothing.db"), "nothing.db: no such store"),
    "study export, no store": (("study", "export", "nothing.db", "--output", "o.csv"), "nothing.db: no such store"),
    "study merge, no store": (("study", "merge", "all.db", "nothing.db"), "nothing.db: no such store"),
    "study run, no file": (("study", "run", "missing.yaml", "--store", "s.db"), "missing.yaml: no such file"),
    "train, no file": (("train", "ne.csv", "--output", "m"), "ne.csv: no such file; did you mean new.csv?"),
    "train, no dataset": (("train", "trek", "--output", "m"), "no dataset of that name; did you mean trec?"),
    "train, a folder": (("train", "./model", "--output", "m"), "model: is a folder; name a file in it"),
    "train, no test file": (
        ("train", "new.csv", "--test", "missing.csv", "--output", "m"),
        "missing.csv: no such file",
    ),
    "train, no dev file": (("train", "new.csv", "--dev", "no.csv", "--output", "m"), "no.csv: no such file"),
    "train, no augmented file": (
        ("train", "new.csv", "--augmented", "missing.csv", "--output", "m"),
        "missing.csv: no such file",
    ),
    "train, no model": (("train", "new.csv", "--model", "./nothing", "--output", "m"), "'./nothing' cannot be loaded"),
    "predict, no model": (("predict", "nothing", "new.csv"), "nothing is not a folder"),
    "predict, an empty folder": (("predict", "empty", "new.csv"), "empty has no deni.json and no config.json"),
    "predict, no file": (("predict", "model", "missing.csv"), "missing.csv: no such file"),
    "evaluate, no model": (("evaluate", "nothing", "new.csv"), "nothing is not a folder"),
    "evaluate, no file": (("evaluate", "model", "missing.csv"), "missing.csv: no such file"),
    "compare, no second model": (("compare", "model", "nothing", "new.csv"), "nothing is not a folder"),
    "compare, an output that is read": (
        ("compare", "model", "model", "new.csv", "--output", "new.csv"),
        "what is read",
    ),
    "compare, no study": (("compare", "model", "model", "new.csv", "--study", "no.db"), "no.db: no such store"),
    "suggest, no model": (("suggest", "nothing", "new.csv"), "nothing is not a folder"),
    "suggest, an output that is read": (
        ("suggest", "model", "new.csv", "--output", "o.csv", "--apart", "new.csv"),
        "new.csv is what is read",
    ),
    "suggest, no labeled file": (("suggest", "model", "new.csv", "--labeled", "no.csv"), "no.csv: no such file"),
    "export, no model": (("export", "nothing", "out"), "nothing is not a folder"),
    "serve, no model": (("serve", "nothing"), "nothing is not a folder"),
    "serve, no token file": (("serve", "model", "--token-file", "no.txt"), "no.txt: no such file"),
    "forecast, no file": (("forecast", "missing.csv"), "missing.csv: no such file"),
    "forecast, a page that is there": (("forecast", "new.csv", "--output", "file"), "file exists"),
    "inspect, no file": (("inspect", "missing.csv"), "missing.csv: no such file"),
    "inspect, no test file": (("inspect", "new.csv", "--test", "missing.csv"), "missing.csv: no such file"),
    "adapt, no file": (("adapt", "--texts", "no.csv", "--output", "m"), "no.csv: no such file"),
    "adapt, no test file": (
        ("adapt", "--texts", "new.csv", "--test", "missing.csv", "--output", "m"),
        "missing.csv: no such file",
    ),
    "adapt, an output that is there": (("adapt", "--texts", "new.csv", "--output", "model"), "model exists"),
    "distil, no model": (("distil", "missing", "--texts", "new.csv", "--output", "m"), "missing is not a folder"),
    "distil, no pool": (("distil", "model", "--texts", "no.csv", "--output", "m"), "no.csv: no such file"),
    "distil, an output that is there": (("distil", "file", "--texts", "new.csv", "--output", "model"), "model exists"),
    "augment, no file": (("augment", "missing.csv", "--output", "o.csv"), "missing.csv: no such file"),
    "diagnose, no file": (("diagnose", "missing.csv"), "missing.csv: no such file"),
    "demo, no model": (("demo", "--model", "/no/such/model"), "'/no/such/model' cannot be loaded: no such folder"),
}


@pytest.mark.parametrize("what", CALLS)
def test_what_is_wrong_is_said_before_anything_large_is_imported(taken, what):
    words, said = CALLS[what]
    (taken / "model" / "t.csv").write_text("text,label\n")
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, cwd=taken, env=dict(os.environ)
    )
    assert said in done.stderr, done.stderr
    assert done.stdout.strip() == "2 []"
