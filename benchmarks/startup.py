"""How long do help, completion and the first error take? Seconds of processor time of a fresh process.

python benchmarks/startup.py --before FOLDER, a worktree of an earlier commit
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import environment, write

HERE = Path(__file__).parents[1]
TARGET = 0.4
CODE = "from deni.cli import main; main(prog_name='deni')"
WRONG = "strategys: [deni]\ndatasets: [trec]\nseeds: 3\n"
COMMANDS = "demo inspect augment train evaluate predict export show study diagnose report"  # of both


def seconds(folder: Path, code: str, arguments: list[str], typed: dict[str, str]) -> float:
    """Processor time, user's and system's, of Python with the code of this worktree."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **typed},
    )
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0
    return used.ru_utime + used.ru_stime


def cases(wrong: Path) -> dict[str, tuple[str, list[str], dict[str, str]]]:
    """What is typed -> code, arguments, environment."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="worktree of an earlier commit")
    parser.add_argument("--rounds", type=int, default=3, help="the best one counts: other work only adds time")
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=given.before, capture_output=True, text=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        wrong = Path(folder) / "wrong.yaml"
        wrong.write_text(WRONG)
        for name, case in cases(wrong).items():
            before, after = (min(seconds(tree, *case) for _ in range(given.rounds)) for tree in (given.before, HERE))
            rows.append({"what": name, "before": before, "after": after})
            print(f"{before:6.2f} {after:6.2f}  {name}", flush=True)
    write("startup", {**environment(), "before": commit.stdout.strip(), "target": TARGET, "rows": rows})


if __name__ == "__main__":
    main()
