"""What does packing buy? A study of 20 seeds, packed and one seed after another: MiniLM on TREC.

    python benchmarks/study.py

The two take turns in one process, so that both find the same machine. `auto` is the size that a few steps chose.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
import yaml
from common import data, environment, write

from deni.study.plan import read_study
from deni.study.run import Run
from deni.study.store import Store


def seconds(file: Path, folder: Path, pack: int | str, threads: int) -> tuple[float, int]:
    """How long the study takes with packs of this size, and the largest pack there was."""
    study = read_study(file)
    path = folder / f"{pack}.db"
    with Store(path, create=True) as store:
        began = time.perf_counter()
        failed = Run(study, study.planned, pack=pack, threads=threads, progress=False).into(store)
        took = time.perf_counter() - began
        assert not failed
        largest = max(row.diagnostics["pack"] for row in store.results())
    path.unlink()
    return took, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--labelled", type=int, default=48)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for tuning in ("lora", "full"):
        for strategy in ("default", "deni"):
            study = {"datasets": [{"path": str(data("trec"))}], "tunings": [tuning], "strategies": [strategy]}
            study |= {"labelled": args.labelled, "seeds": args.seeds, "test_size": 200}
            study |= {"recipe": {"epochs": args.epochs}}
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                file = folder / "study.yaml"
                file.write_text(yaml.safe_dump(study))
                rounds = [
                    [seconds(file, folder, pack, args.threads) for pack in (1, "auto")] for _ in range(args.rounds)
                ]
            alone, packed = (min(each[at][0] for each in rounds) for at in (0, 1))
            row = {"tuning": tuning, "strategy": strategy, "pack": rounds[0][1][1], "alone": alone, "packed": packed}
            rows.append({**row, "ratio": packed / alone})
            print(rows[-1], flush=True)
    write("study", {**environment(), "settings": vars(args), "rows": rows})


if __name__ == "__main__":
    main()
