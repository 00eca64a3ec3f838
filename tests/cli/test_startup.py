"""What is asked of the command line often is answered without waiting for the libraries that train."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deni.cli import COMMANDS, main

# Half a second to four seconds each; NumPy takes 0.07 s and may be there.
HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "adapters", "ray"}
HEAVY |= {"sklearn", "scipy", "pandas", "pyarrow", "datasets", "rich", "openai"}
ARTIFACTS = Path(__file__).parents[1] / "artifact" / "format_1"
CODE = """
import atexit, sys
from deni.cli import main
atexit.register(lambda: print("\\nloaded:", *sorted({name.partition(".")[0] for name in sys.modules})))
main(prog_name="deni")
"""


def python(code, *arguments, **environment):
    """What a fresh process prints, and the packages that it has loaded."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    printed, _, loaded = done.stdout.rpartition("loaded:")
    assert loaded, done.stderr
    return printed + done.stderr, set(loaded.split())


def commands():
    """Each command and those below it, as typed."""
    for name in COMMANDS:
        yield [name]
        command = main.get_command(click.Context(main), name)
        if isinstance(command, click.Group):
            yield from ([name, below] for below in command.commands)


@pytest.mark.parametrize("command", [[], *commands()], ids=" ".join)
def test_help_loads_nothing_heavy(command):
    printed, loaded = python(CODE, *command, "--help")
    assert printed.startswith(" ".join(["Usage: deni", *command]))
    assert loaded & HEAVY == set()


def test_the_schedule_of_a_strategy_loads_nothing_heavy():
    printed, loaded = python(CODE, "strategies", "show", "deni", "--steps", "1250")
    assert "1x375 10x125 1x125 10x125 1x375 10x125" in printed
    assert loaded & HEAVY == set()
    printed, loaded = python(CODE, "strategies", "list")
    assert "Take it when results vary too much with the seed" in " ".join(printed.split())
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("strategys: [deni]", "line 1: strategys: no such key; did you mean strategies?"),
        ("datasets: [trec]\nstrategies: [{name: deni, membrs: 3}]\nseeds: 2", "did you mean members?"),
        ("datasets: [trec]\nstrategies: [deni]\nseeds: 2\nrecipe: {epoch: 3}", "did you mean epochs?"),
        ("datasets: [trek]\nstrategies: [deni]\nseeds: 2", "did you mean trec?"),
    ],
)
def test_a_misspelled_study_is_reported_before_anything_heavy_is_loaded(tmp_path, wrong, message):
    file = tmp_path / "wrong.yaml"
    file.write_text(wrong)
    printed, loaded = python(CODE, "study", "run", str(file), "--store", str(tmp_path / "s.db"), "--dry-run")
    assert message in printed
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("deni tr", "plain,train"),
        ("deni train --learn", "plain,--learning-rate"),
        ("deni train --tuning lo", "plain,lora"),
        ("deni train --strategy no", "plain,noisy_interpolation"),
        ("deni train --strategy prior_noise+lin", "plain,prior_noise+linear_probe"),
        ("deni strategies show mix", "plain,mixout"),
        ("deni tunings show pr", "plain,prompt"),
        ("deni train --merge-l", "plain,--merge-lora"),
    ],
)
def test_the_shell_completes_commands_flags_and_values_without_loading_anything_heavy(words, completed):
    typed = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    printed, loaded = python(CODE, _DENI_COMPLETE="bash_complete", **typed)
    assert printed.split() == [completed]
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    "line",
    ["from deni import DeniClassifier", "from deni import load", "deni.load('tests/artifact/format_1/full_deni')"],
)
def test_without_a_peft_tuning_neither_peft_nor_bitsandbytes_is_loaded(line):
    code = f"import deni, sys; {line}; print('loaded:', *{{name.partition('.')[0] for name in sys.modules}})"
    _, loaded = python(code)
    assert loaded & {"peft", "bitsandbytes", "adapters", "ray"} == set()


def test_a_prediction_loads_no_library_that_it_does_not_need(tmp_path):
    (tmp_path / "new.csv").write_text("text\nwhere is my parcel\n")
    printed, loaded = python(CODE, "predict", str(ARTIFACTS / "full_deni"), str(tmp_path / "new.csv"))
    assert printed.startswith("text,label,confidence,agreement,entropy\nwhere is my parcel,")
    assert "torch" in loaded
    assert loaded & {"datasets", "sklearn", "peft", "bitsandbytes", "adapters", "ray", "openai"} == set()


def test_the_estimator_is_imported_without_torch():
    code = "from deni import DeniClassifier; import sys; print('loaded:', *sys.modules)"
    assert python(code)[1] & {"torch", "transformers"} == set()
