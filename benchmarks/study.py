"""What does packing buy? A study of 20 seeds, packed and one seed after another: MiniLM with LoRA on TREC.

    python benchmarks/study.py

The two take turns in one process, so that both find the same machine; the best round counts. Rows of strategies that
are not asked for stay as they were.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from common import RESULTS, data, environment, write

from deni.study.execution.run import Run
from deni.study.plan import read_study
from deni.study.store.database import Store


def cost(file: Path, folder: Path, pack: int, threads: int) -> dict[str, float]:
    """Seconds, and seconds of the processor, that the study takes with packs of this size."""
    study = read_study(file)
    path = folder / f"{pack}.db"
    with Store(path, create=True) as store:
        began, worked = time.perf_counter(), time.process_time()
        failed = Run(study, study.jobs, pack=pack, threads=threads, progress=False).into(store)
        took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
        assert not failed
        assert {row.diagnostics["pack"] for row in store.results()} == {pack}
    path.unlink()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=["default", "deni"])
    parser.add_argument("--tunings", nargs="+", default=["lora"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--labelled", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--test-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for tuning in args.tunings:
        for strategy in args.strategies:
            study = {"datasets": [{"path": str(data("trec"))}], "tunings": [tuning], "strategies": [strategy]}
            study |= {"labelled": args.labelled, "seeds": args.seeds, "test_size": args.test_size}
            study |= {"recipe": {"epochs": args.epochs}}
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                file = folder / "study.yaml"
                file.write_text(yaml.safe_dump(study))
                rounds = [
                    [cost(file, folder, pack, args.threads) for pack in (1, args.seeds)] for _ in range(args.rounds)
                ]
            row: dict[str, Any] = {"tuning": tuning, "strategy": strategy, "seeds": args.seeds}
            for kind in ("seconds", "cpu_seconds"):
                alone, packed = (min(each[at][kind] for each in rounds) for at in (0, 1))
                row |= {f"alone_{kind}": alone, f"packed_{kind}": packed, f"ratio_of_{kind}": packed / alone}
            row |= {name: getattr(args, name) for name in ("labelled", "epochs", "test_size", "rounds", "threads")}
            print(row, flush=True)
            write("study", {**environment(), "rows": [*_others(row), row]})


def _others(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured before of other tunings and strategies."""
    path = RESULTS / "study.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [each for each in before if any(each[key] != row[key] for key in ("tuning", "strategy"))]


if __name__ == "__main__":
    main()
