"""Train the cells of studies by successive halving: many rows on one seed, the best of each dataset on more.

A row is what differs in nothing but the seed. What is trained stays in the store, so the same command goes on after a
stop. At the end it prints the rows of each dataset, the best first.

python benchmarks/studies/halve.py features.db results/features.yaml --stages all:1 6:2 4:5
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from deni.provenance import canonical
from deni.study.execution.job import Job
from deni.study.execution.run import Run
from deni.study.plan import Study, read_study
from deni.study.store.database import Store


def row_of(job: Job) -> str:
    """What all cells of a row share, without their dataset."""
    cell = job.cell
    settings = {**job.decides["strategy"], "recipe": dict(cell.recipe), "tuning": cell.tuning.name}
    return canonical({**settings, "label": cell.label})


def ranked(jobs: Iterable[Job], scores: Mapping[str, float]) -> dict[str, list[tuple[float, str, int]]]:
    """Of each dataset the rows with a score: mean, row, seeds; those with the most seeds first, then the best."""
    found: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        if job.key in scores:
            found.setdefault((job.cell.dataset["name"], row_of(job)), []).append(scores[job.key])
    tables: dict[str, list[tuple[float, str, int]]] = {}
    for (dataset, row), values in found.items():
        tables.setdefault(dataset, []).append((float(np.mean(values)), row, len(values)))
    return {name: sorted(rows, key=lambda each: (-each[2], -each[0])) for name, rows in tables.items()}


def chosen(jobs: Sequence[Job], scores: Mapping[str, float], keep: int | None, seeds: int) -> list[Job]:
    """The cells of a stage: of each dataset the best rows so far, all if `keep` is None, on their first seeds.

    Args:
        scores: of the cells that are done, by key.
    """
    best = {name: {row for _, row, _ in rows[:keep]} for name, rows in ranked(jobs, scores).items()}
    return [
        job
        for job in jobs
        if job.cell.seed < seeds and (keep is None or row_of(job) in best.get(job.cell.dataset["name"], ()))
    ]


def scores_of(store: Path) -> dict[str, float]:
    """Macro F1 of each cell that is done, by key."""
    if not store.exists():
        return {}
    with Store(store) as opened:
        return {row.key: row.metrics["macro_f1"] for row in opened.results("done")}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("--stages", nargs="+", default=["all:1", "6:2", "4:5"], help="rows of a dataset : seeds")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--pack", type=int, default=1, help="seeds that train in one population")
    parser.add_argument("--trunks", help="folder for what rows that differ only in their forks share")
    parser.add_argument("--minutes", type=float, default=1e6, help="no cell begins after so many")
    args = parser.parse_args(given)
    end = time.monotonic() + 60 * args.minutes
    studies = [read_study(file) for file in args.studies]
    jobs = [job for study in studies for job in study.jobs]
    how = {"runner": "processes", "workers": args.workers} if args.workers > 1 else {}
    how = {**how, "trunks": args.trunks, "progress": False}
    for stage in args.stages:
        rows, _, seeds = stage.partition(":")
        wanted = chosen(jobs, scores_of(args.store), None if rows == "all" else int(rows), int(seeds))
        with Store(args.store, create=True) as store:
            have = store.statuses(job.key for job in wanted)
            left = [job for job in wanted if have.get(job.key) not in ("done", "failed")]
            print(f"stage {stage}: {len(wanted)} cells, {len(left)} to train", flush=True)
            minutes = max((end - time.monotonic()) / 60, 1e-3)
            study = Study("features", tuple(wanted), studies[0].library)
            Run(study, left, threads=1, pack=args.pack, minutes=minutes, **how).into(store)
        if time.monotonic() >= end:
            print("time is up: the same command goes on")
            break
    for dataset, table in ranked(jobs, scores_of(args.store)).items():
        print(f"\n{dataset}")
        for mean, row, count in table:
            named = json.loads(row)
            label = named["label"] or named["name"]
            print(f"{100 * mean:6.1f}  {count} seeds  {label}, {canonical(named['recipe'])}")


if __name__ == "__main__":
    main()
