"""Commands with odd values of their flags."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzzing.case import Case
from fuzzing.whole import EASY, MANY, MODEL, TEXTS

# Numbers that are refused, or small enough to be trained with at once.
FLAG_VALUES = (
    "0",
    "-1",
    "-0",
    "1",
    "2",
    "nan",
    "inf",
    "-inf",
    "1e30",
    "1e308",
    "1e309",
    "1e-320",
    "",
    " ",
    "x",
    "0x10",
    "1_0",
)
FLAG_VALUES += (
    "\u0663",
    "9" * 20,
    "9" * 400,
    "9" * 5000,
    "-" + "9" * 30,
    str(2**31),
    str(2**63),
    "1.5",
    ".5",
    "--",
    "true",
)
FLAG_VALUES += (
    "None",
    "\ud800",
    "\u202e",
    "a,b,c",
    "a" * 300,
    "\x1b[2J",
    "[x]",
    "0.2",
    "3",
    "1e",
    "1e400",
    "+1",
    "1 2",
)


def commands() -> dict[tuple[str, ...], Any]:
    """All commands of deni, by their names."""
    import click

    from deni.cli import main

    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from below(command.get_command(context, name), (*path, name))
        else:
            yield path, command

    return dict(below(main, ()))


def options() -> dict[str, list[tuple[str, bool]]]:
    """The flags of each command that is tried, and whether they take a value."""
    found = {}
    for path, command in commands().items():
        flags = [(each.opts[0], not each.is_flag) for each in command.params if each.param_type_name == "option"]
        found[" ".join(path)] = flags
    return found


WAITS = (
    "--address",
    "--runner",
    "--workers",
    "--yes",
    "--base-url",
    "--llm-model",
    "--report-to",
    "--via",
    "--debug",
    "--gpus-per-worker",
)
WAITS += (
    "--processes",
    "--json",
    "--as-json",
    "--cache",
    "--trunks",
    "--store",
    "--output",
    "--csv",
    "--markdown",
    "--latex",
    "--figures",
)
WAITS += ("--minutes", "--fine-tune")


def flags(draw: random.Random, whole: Path, here: Path) -> Case:
    """A command with odd values of its flags."""
    known = json.loads((whole / "options.json").read_text())
    shutil.copytree(whole / "artifacts" / "2_full", here / "m")
    shutil.copytree(whole / "artifacts" / "2_lora", here / "m2")
    shutil.copytree(whole / MODEL, here / "second")
    shutil.copy(whole / "study.db", here / "s.db")
    shutil.copy(whole / "study.yaml", here / "study.yaml")
    quick = ["--model", MODEL, "--no-progress"]
    given = {
        "train": [TEXTS, *quick, "--epochs", "1", "--strategy", draw.choice(STRATEGIES), "--tuning",
                  draw.choice(TUNINGS), "--output", "out"],
        "strategies show": [draw.choice(STRATEGIES)],
        "strategies list": [],
        "tunings show": [draw.choice(TUNINGS)],
        "augment": [TEXTS, *EASY, "--output", "out.csv", "--no-progress"],
        "inspect": [TEXTS, "--model", MODEL],
        "predict": ["m", TEXTS, "--output", "out.csv"],
        "evaluate": ["m", TEXTS],
        "export": ["m", "out"],
        "study run": ["study.yaml", "--store", "out.db", "--dry-run"],
        "study export": ["s.db", "--output", "out.csv"],
        "study retry": ["s.db"],
        "report": ["s.db", "--output", "out.html", "--no-progress"],
        "distil": ["m", "--texts", MANY, "--labeled", TEXTS, "--epochs", "1", "--no-progress", "--output", "out"],
        "adapt": ["--texts", MANY, *quick, "--steps", "2", "--batch-size", "4", "--output", "out"],
        "forecast": [MANY, *quick, "--seeds", "2", "--output", "out.html"],
        "suggest": ["m", MANY, "--n", "3", "--output", "out.csv"],
        "compare": ["m", "m2", TEXTS],
        "models": [TEXTS, "--models", f"{MODEL},second", "--no-progress", "--output", "out.csv"],
        "demo": ["--model", MODEL, "--seeds", "2", "--labeled", "12", "--epochs", "1", "--output", "out.html"],
        "serve": ["m", "--port", "0"],
        "push": ["m", "user/name", "--dry-run"],
        "diagnose": [TEXTS, *quick, "--labeled", "9", "--epochs", "1", "--store", "out.db", "--dry-run"],
    }  # fmt: skip
    weights = [
        6 if name == "train" else 2 if name in ("diagnose", "strategies show", "study run") else 1 for name in given
    ]
    (name,) = draw.choices([each for each in given if each in known], weights[: len(given)])
    argv = [*name.split(), *given[name]]
    choice = [(flag, value) for flag, value in known[name] if flag not in WAITS]
    for flag, takes in draw.sample(choice, min(len(choice), draw.choice((1, 1, 1, 2, 3)))):
        argv += [flag, draw.choice(FLAG_VALUES)] if takes else [flag]
    if draw.random() < 0.1:
        places_ = [at for at, word in enumerate(argv) if not word.startswith("--") and at >= len(name.split())]
        at = draw.choice(places_) if places_ else 0
        before = argv[at - 1] if at else ""
        if at and before not in ("--output", "--store", "--epochs") and argv[at] != "out":
            argv[at] = draw.choice(FLAG_VALUES)
    return Case(argv)


STRATEGIES = (
    "default",
    "deni",
    "ensemble",
    "swa",
    "ema",
    "mixout",
    "prior_noise",
    "input_noise",
    "noisy_interpolation",
    "l2_sp",
    "llrd",
)
STRATEGIES += ("weight_noise", "delayed_ensemble", "best_practices", "linear_probe", "reinit", "soup", "swa+deni")
TUNINGS = ("full", "lora", "ia3", "prompt")
