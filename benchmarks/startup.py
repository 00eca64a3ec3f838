"""How long do help, completion, the first error and one prediction take? Seconds of processor time of a fresh process.

python benchmarks/startup.py --before FOLDER, a worktree of an earlier commit
python benchmarks/startup.py --before FOLDER --predict: `deni predict` of one text; the rest of the results stays
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

from common import RESULTS, data, environment, write

HERE = Path(__file__).parents[1]
TARGET, PREDICT_TARGET = 0.4, 4.0
CODE = "from deni.cli import main; main(prog_name='deni')"
WRONG = "strategys: [deni]\ndatasets: [trec]\nseeds: 3\n"
COMMANDS = "demo inspect augment train evaluate predict export show study diagnose report"  # of both


def seconds(folder: Path, code: str, arguments: list[str], typed: dict[str, str]) -> float:
    """Processor time, user's and system's, of Python with the code of this worktree."""
    path = os.pathsep.join([*([typed["PYTHONPATH"]] if "PYTHONPATH" in typed else []), str(folder / "src")])
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **typed, "PYTHONPATH": path},
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 2):  # 2: the error in the study, which is measured too
        sys.exit(f"{arguments} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


def cases(folder: Path) -> dict[str, tuple[str, list[str], dict[str, str]]]:
    """What is typed -> code, arguments, environment."""
    wrong = folder / "wrong.yaml"
    wrong.write_text(WRONG)
    completion = {"_DENI_COMPLETE": "bash_complete", "COMP_WORDS": "deni train --la", "COMP_CWORD": "2"}
    study = ["study", "run", str(wrong), "--store", "study.db", "--dry-run"]
    return {
        "deni --help": (CODE, ["--help"], {}),
        **{f"deni {name} --help": (CODE, [name, "--help"], {}) for name in COMMANDS.split()},
        "deni study run --help": (CODE, ["study", "run", "--help"], {}),
        "deni show deni --steps 1250": (CODE, ["show", "deni", "--steps", "1250"], {}),
        "deni study run wrong.yaml --dry-run": (CODE, study, {}),
        "completion of deni train --la": (CODE, [], completion),
        "from deni import DeniClassifier": ("from deni import DeniClassifier", [], {}),
        "from deni import load": ("from deni import load", [], {}),
    }


def predictions(folder: Path) -> dict[str, tuple[str, list[str], dict[str, str]]]:
    """What is predicted with -> code, arguments, environment; the models are trained into a folder."""
    text, blocked = folder / "one.csv", folder / "blocked"
    text.write_text("text\nWhere is the Taj Mahal ?\n")
    blocked.mkdir()
    (blocked / "bitsandbytes.py").write_text("raise ImportError('not here')\n")
    for tuning in ("full", "lora"):
        given = ["--strategy", "deni", "--tuning", tuning, "--labeled", "60", "--epochs", "3", "--test", "0"]
        command = ["train", str(data("trec")), "--output", str(folder / tuning), *given, "--no-baselines"]
        for line in (command, ["predict", str(folder / tuning), str(text)]):  # the second one reads all files once
            subprocess.run([sys.executable, "-c", CODE, *line], check=True, capture_output=True)

    def case(tuning: str, **typed: str) -> tuple[str, list[str], dict[str, str]]:
        return CODE, ["predict", str(folder / tuning), str(text)], typed

    return {
        "ten members, full": case("full"),
        "ten members, LoRA": case("lora"),
        "ten members, LoRA, without bitsandbytes": case("lora", PYTHONPATH=str(blocked)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="worktree of an earlier commit")
    parser.add_argument("--rounds", type=int, default=3, help="the best one counts: other work only adds time")
    parser.add_argument("--predict", action="store_true", help="predictions only; the other results stay")
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=given.before, capture_output=True, text=True)
    measured = {**environment(), "before": commit.stdout.strip()}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, case in (predictions if given.predict else cases)(Path(folder)).items():
            before, after = (min(seconds(tree, *case) for _ in range(given.rounds)) for tree in (given.before, HERE))
            rows.append({"what": name, "before": before, "after": after})
            print(f"{before:6.2f} {after:6.2f}  {name}", flush=True)
    if given.predict:
        kept = json.loads((RESULTS / "startup.json").read_text())
        write("startup", {**kept, "predict": {**measured, "target": PREDICT_TARGET, "rows": rows}})
    else:
        write("startup", {**measured, "target": TARGET, "rows": rows})


if __name__ == "__main__":
    main()
