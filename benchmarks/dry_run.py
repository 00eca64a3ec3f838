"""How near the prediction of `deni study run --dry-run` is: five small studies that differ, predicted, then trained.

A process for each prediction and for each training, since a study is predicted in one and trained in another. Both
are seconds of the processor on one thread: what they are by the clock on a machine where nothing else runs.

    python benchmarks/dry_run.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from common import RESULTS, data, environment, write

STUDIES: dict[str, dict[str, Any]] = {
    "ten seeds, LoRA": {"strategies": ["default"], "tunings": ["lora"], "labelled": 60, "seeds": 10},
    "DENI, LoRA": {"strategies": ["deni"], "tunings": ["lora"], "labelled": 60, "seeds": 1},
    "five strategies, full": {
        "strategies": ["default", "swa", "mixout", "weight_noise", "delayed_ensemble"],
        "tunings": ["full"],
        "labelled": 60,
        "seeds": 1,
        "recipe": {"epochs": 4},
    },
    "three tunings, two datasets": {
        "datasets": ["trec", "sst2"],
        "strategies": ["default"],
        "tunings": ["lora", "ia3", "full"],
        "labelled": 60,
        "seeds": 3,
        "recipe": {"epochs": 4},
    },
    "an ensemble, batches of 32": {
        "strategies": [{"name": "ensemble", "members": 5}],
        "tunings": ["full"],
        "labelled": 100,
        "seeds": 1,
        "recipe": {"batch_size": 32, "epochs": 5},
    },
}
TEST = 200  # texts that each study predicts, at most


def study(name: str, folder: Path) -> Path:
    """The file of a study."""
    given = {"datasets": ["trec"], "recipe": {"epochs": 5}, **STUDIES[name]}
    given["datasets"] = [{"path": str(_subset(each, folder))} for each in given["datasets"]]
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    return file


def _subset(name: str, folder: Path) -> Path:
    import pandas as pd

    file = folder / f"{name}.csv"
    if not file.exists():
        frame = pd.read_csv(data(name))
        frame.sample(min(len(frame), 5 * TEST), random_state=0).to_csv(file, index=False)
    return file


def step(name: str, folder: str, what: str) -> float:
    """Seconds that a study is predicted to take, or takes."""
    from deni.commands.study import plan_study, run_study

    time.perf_counter = time.process_time  # in what deni measures, too
    file, store = study(name, Path(folder)), Path(folder) / "study.db"
    planned, run = plan_study(file, store, threads=1, progress=False)
    if what == "predict":
        return run.seconds()
    began = time.perf_counter()
    progress = run_study(planned, run, store)
    assert progress.done == progress.cells, progress
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(STUDIES))
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(step(*args.step))
        return
    rows = []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            seconds = {}
            for what in ("predict", "train"):
                command = [sys.executable, __file__, "--step", name, folder, what]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{name}, {what}: {done.stderr}")
                seconds[what] = float(done.stdout.splitlines()[-1])
        ratio = seconds["predict"] / seconds["train"]
        rows.append({"study": name, "predicted": seconds["predict"], "seconds": seconds["train"], "ratio": ratio})
        print(json.dumps(rows[-1]), flush=True)
        file = RESULTS / "dry_run.json"  # each study is kept when it is trained
        kept = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
        found = {row["study"]: row for row in [*kept, *rows]}
        write("dry_run", {**environment(), "rows": [found[name] for name in STUDIES if name in found]})


if __name__ == "__main__":
    main()
