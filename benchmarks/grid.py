"""Many `deni train` commands, some at a time; what is finished is kept, so the same command goes on after a stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import RESULTS, environment, write
from tqdm import tqdm


def train(arguments: list[str], threads: int) -> dict[str, Any]:
    """Run `deni train` and give what `deni.json` says of it."""
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        command = [sys.executable, "-c", "from deni.cli import main; main()", "train", *arguments, "--no-progress"]
        done = subprocess.run([*command, "--output", out], env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1]}
        said = json.loads((out / "deni.json").read_text(encoding="utf-8"))
    return {
        "macro_f1": said["metrics"]["macro_f1"],
        "accuracy": said["metrics"]["accuracy"],
        "member_steps": said["member_steps"],
        "seconds": said["seconds"],
        "engine": said["diagnostics"]["engine"],
        "test_texts": said["metrics"]["test_texts"],
    }


def run(name: str, cells: dict[str, list[str]], settings: dict[str, Any], workers: int, threads: int) -> None:
    """Run the cells that `results/NAME.json` does not have yet, and write it after each.

    Args:
        cells: what a cell is called -> the arguments of `deni train`; the data's path is not part of the result.
        settings: what all of them have in common; cells of other settings are refused.
        workers: commands at a time, each with so many threads.
    """
    path = RESULTS / f"{name}.json"
    rows: dict[str, Any] = {}
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["settings"] != settings:
            sys.exit(f"{path} has other settings ({earlier['settings']}): move it away")
        rows = earlier["cells"]
    here = environment()
    used = {"transformers": version("transformers"), "commit": here["commit"], "threads": threads}
    missing = [cell for cell in cells if "macro_f1" not in rows.get(cell, {})]
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(train, cells[cell], threads): cell for cell in missing}
        for done in tqdm(as_completed(running), total=len(running)):
            rows[running[done]] = {**done.result(), **used}
            write(name, {**here, "threads": threads, "settings": settings, "cells": dict(sorted(rows.items()))})
