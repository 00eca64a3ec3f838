"""How much longer does `deni train` take with cross-validation?

DENI_DATA=~/data python benchmarks/cross_validation_cost.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import data, environment, write

TARGET = 4.5
LABELS, FOLDS = 200, 5


def train(file: Path, output: Path, epochs: float | None, *flags: str) -> dict[str, Any]:
    """Processor seconds of one command, and what it trained. Processor time, which other work does not change much."""
    more = [] if epochs is None else ["--epochs", str(epochs)]
    command = ["train", str(file), "--labeled", str(LABELS), "--test", "0", "--no-progress", *more, *flags]
    started = subprocess.Popen(
        [sys.executable, "-c", "from deni.cli import main; main()", *command, "--output", str(output)]
    )
    _, status, used = os.wait4(started.pid, 0)
    if status:
        sys.exit(f"deni {' '.join(command)} failed")
    print(f"{used.ru_utime + used.ru_stime:.0f} seconds", flush=True)
    info = json.loads((output / "deni.json").read_text())
    return {
        "seconds": used.ru_utime + used.ru_stime,
        "member_steps": info["member_steps"],
        "strategy": info["strategy"]["name"],
        "tuning": info["tuning"]["name"],
        "epochs": info["recipe"]["epochs"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, help="default: those of auto")
    parser.add_argument("--output", default="cross_validation_cost", help="name of the result")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DENI_CACHE"] = "off"  # else the second command would find the features of the first
        plain = train(data("trec"), Path(folder, "plain"), args.epochs)
        crossed = train(data("trec"), Path(folder, "crossed"), args.epochs, "--cv", str(FOLDS))
    ratio = crossed["seconds"] / plain["seconds"]
    found = {"data": "trec", "labels": LABELS, "folds": FOLDS, "target": TARGET, "ratio": ratio}
    write(args.output, {**environment(), **found, "plain": plain, "crossed": crossed})


if __name__ == "__main__":
    main()
