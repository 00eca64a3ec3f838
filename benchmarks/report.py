"""How long does the report of a large study take, and how large is its page?

Builds a store of made-up results by the Store's own interface (20 strategies x 50 settings x 20 seeds), and reports it.

    python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from common import environment, write
from tqdm import tqdm

from deni.report import write_report
from deni.study.cell import Cell, CellResult, Fingerprints, NamedSettings
from deni.study.execution.job import Job
from deni.study.store.database import Store

LABELS = ("one", "two", "three", "four")


def cells(runs: int, seeds: int, strategies: int) -> Iterator[Cell]:
    for at in range(runs // (seeds * strategies)):
        for strategy in range(strategies):
            for seed in range(seeds):
                yield Cell(
                    dataset={"name": f"dataset {at // 5}"},
                    model="minilm",
                    tuning=NamedSettings("lora"),
                    strategy=NamedSettings("swa", {"average_from": strategy / strategies})
                    if strategy
                    else NamedSettings("default"),
                    labelled=100 * 2 ** (at % 5),
                    seed=seed,
                    block=0,
                )


def result(cell: Cell, texts: int, generator: np.random.Generator) -> CellResult:
    right = generator.random(texts) < 0.7 + 0.1 * generator.random()
    gold = np.arange(texts) % len(LABELS)
    logits = generator.normal(size=(texts, len(LABELS)))
    logits[np.arange(texts), np.where(right, gold, (gold + 1) % len(LABELS))] += 4
    log_probs = (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[:, None]
    steps = 100 * (1 + cell.seed % 2)
    cost = {"member_steps": steps, "seconds": steps / 10}
    return CellResult(log_probs, gold, np.arange(texts), LABELS, "made up", {"macro_f1": 0.0}, cost)


def build(path: Path, runs: int, seeds: int, strategies: int, texts: int) -> int:
    generator = np.random.default_rng(0)
    jobs = [
        Job.of(cell, Fingerprints(cell.dataset["name"], cell.model), {}, steps=100)
        for cell in tqdm(cells(runs, seeds, strategies), "planning", runs)
    ]
    with Store(path, create=True) as store:
        store.add(jobs, "a large study")
        for each in tqdm(jobs, "building"):
            store.finish(each.key, result(each.cell, texts, generator))
    return len(jobs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", type=int, default=20)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--store", type=Path, help="a store that this script built before")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = args.store or Path(folder) / "study.db"
        if not store.exists():
            build(store, args.runs, args.seeds, args.strategies, args.texts)
        page = Path(folder) / "report.html"
        begun, used = time.perf_counter(), time.process_time()
        tables = write_report(store, page, progress=True)
        seconds, used = time.perf_counter() - begun, time.process_time() - used
        size = page.stat().st_size
    found = environment()
    found["versions"] |= {name: version(name) for name in ("numpy", "pandas", "altair", "vl-convert-python")}
    found |= {"runs": len(tables.each_run), "settings": len(tables.runs.settings), "texts": args.texts}
    found |= {"strategies": len(tables.runs.strategies), "resamples": tables.resamples}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found |= {"seconds": round(seconds, 1), "cpu_seconds": round(used, 1)}  # the first counts other work on the machine
    write("report", found | {"mib": round(size / 2**20, 2), "peak_mib": round(peak)})


if __name__ == "__main__":
    main()
