"""Write the tables of students and their teachers in docs/distillation.md; `--check` compares only.

A student's cell has the scores of its teacher and what each stage cost, so the two are paired by seed. Intervals are
about other seeds, on the same labeled and test texts.

python results/students.py
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from deni.measures import mean_interval, pitman_morgan
from deni.report.text_tables import markdown_table

HERE = Path(__file__).parent
ARCHIVES = ("distillation", "other_pool")
PAGE = HERE.parent / "docs" / "distillation.md"
START, END = "<!-- students -->\n\n", "\n<!-- /students -->"
TEACHER, STUDENTS = "teacher of ten", ("student, 500 texts", "student, all texts", "student, texts of snips")
OTHERS = ("default", "auto")
COMPARED = [(student, other) for student in STUDENTS for other in (TEACHER, *OTHERS)]
COMPARED += [("student, texts of snips", "student, all texts")]
Scores = dict[str, dict[str, dict[int, float]]]  # dataset -> what -> seed -> macro F1 in points


def read_archives() -> tuple[Scores, dict[str, list[float]]]:
    """Scores of students, their teachers and others, and seconds of each stage of a student."""
    columns = ["spec", "metrics", "cost", "diagnostics", "status"]
    frame = pd.concat(pd.read_parquet(HERE / f"{name}.parquet", columns=columns) for name in ARCHIVES)
    scores: Scores = defaultdict(lambda: defaultdict(dict))
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in frame[frame["status"] == "done"].itertuples(index=False):
        cell, found = json.loads(row.spec), json.loads(row.diagnostics)
        what = cell["label"] or cell["strategy"]["name"]
        what = "auto" if what not in (*STUDENTS, "default") else what
        of_dataset = scores[cell["dataset"]["name"]]
        of_dataset[what][cell["seed"]] = 100 * json.loads(row.metrics)["macro_f1"]
        if what in STUDENTS:
            of_dataset[TEACHER][cell["seed"]] = 100 * found["teacher"]["macro_f1"]
            stages = found["distillation"]
            seconds["teacher"].append(stages["teacher"]["seconds"])
            seconds["folds"].append(stages["teacher"]["folds"]["seconds"])
            seconds["student"].append(stages["seconds"])
        else:
            seconds[what].append(json.loads(row.cost)["seconds"])
    return scores, seconds


def paired(scores: dict[str, dict[int, float]], first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the seeds that both have, in their order."""
    seeds = sorted(scores[first].keys() & scores[second].keys())
    return np.array([scores[first][seed] for seed in seeds]), np.array([scores[second][seed] for seed in seeds])


def build_tables(scores: Scores, seconds: dict[str, list[float]]) -> str:
    """Means and SDs, differences and ratios to teacher and plain training, and what each stage costs."""
    names = (TEACHER, *STUDENTS, *OTHERS)
    means = [
        {"what": name, **{dataset: _spread(each[name]) for dataset, each in scores.items() if each[name]}}
        for name in names
    ]
    compared = []
    for student, other in COMPARED:
        for dataset, each in scores.items():
            mine, its = paired(each, student, other)
            if len(mine) < 5:
                continue
            spread = pitman_morgan(mine, its)
            compared.append(
                {
                    "student": student.removeprefix("student, "),
                    "minus": other,
                    "dataset": dataset,
                    "seeds": len(mine),
                    "difference": _told(mean_interval(mine - its), 2),
                    "SD / SD": _told((spread.ratio, spread.low, spread.high), 2),
                }
            )
    cost = [
        {"stage": stage, "seconds": f"{np.median(each):.0f}", "cells": len(each)} for stage, each in seconds.items()
    ]
    return "\n\n".join(markdown_table(pd.DataFrame(rows).fillna("")) for rows in (means, compared, cost))


def _spread(scores: dict[int, float]) -> str:
    values = list(scores.values())
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def _told(estimate: tuple[float, float, float], digits: int) -> str:
    value, low, high = map(float, estimate)
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(START)
    after = rest.split(END)[1]
    written = f"{before}{START}{build_tables(*read_archives())}\n{END}{after}"
    if not check:
        PAGE.write_text(written, encoding="utf-8")
    elif page != written:
        sys.exit(f"{PAGE} is not what the archives say: run results/students.py")


if __name__ == "__main__":
    main()
