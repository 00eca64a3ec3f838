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
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from deni.measures import mean_interval, pitman_morgan
from deni.report.text_tables import markdown_table

HERE = Path(__file__).parent
ARCHIVES = ("distillation", "other_pool", "few_distillation", "auto_students")
PAGE = HERE.parent / "docs" / "distillation.md"
START, END = "<!-- students -->\n\n", "\n<!-- /students -->"
TEACHER, TEACHER_BY_AUTO, MEAN = "teacher of ten", "teacher of ten by auto", "mean of ten from one start"
OF_AUTO = "student of auto, all texts"
STUDENTS = ("student, 500 texts", "student, all texts", "student, texts of snips", OF_AUTO)
OTHERS = ("default", "auto", MEAN)
COMPARED = [(student, other) for student in STUDENTS[:3] for other in (TEACHER, *OTHERS)]
COMPARED += [("student, texts of snips", "student, all texts")]
COMPARED += [(OF_AUTO, other) for other in (TEACHER_BY_AUTO, "auto", "student, all texts")]
LEAST = 5  # seeds of a difference
Seeds = dict[int, float]
Scores = dict[int, dict[str, dict[str, Seeds]]]  # labels -> dataset -> what -> seed -> macro F1 in points
Seconds = dict[int, dict[str, list[float]]]  # labels -> stage -> of each cell


def read_archives() -> tuple[Scores, Seconds]:
    """Scores of students, their teachers and others, and seconds of each stage of a student."""
    columns = ["spec", "metrics", "cost", "diagnostics", "status"]
    frame = pd.concat(pd.read_parquet(HERE / f"{name}.parquet", columns=columns) for name in ARCHIVES)
    scores: Scores = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    seconds: Seconds = defaultdict(lambda: defaultdict(list))
    for row in frame[frame["status"] == "done"].itertuples(index=False):
        cell, found = json.loads(row.spec), json.loads(row.diagnostics)
        what = cell["label"] or cell["strategy"]["name"]
        what = what if what in (*STUDENTS, "default", MEAN) else "auto"
        of_dataset, spent = scores[cell["labelled"]][cell["dataset"]["name"]], seconds[cell["labelled"]]
        of_dataset[what][cell["seed"]] = 100 * json.loads(row.metrics)["macro_f1"]
        if what not in STUDENTS:
            spent[what].append(json.loads(row.cost)["seconds"])
            continue
        teacher = TEACHER_BY_AUTO if what == OF_AUTO else TEACHER
        of_dataset[teacher][cell["seed"]] = 100 * found["teacher"]["macro_f1"]
        if what != OF_AUTO:
            stages = found["distillation"]
            spent["teacher"].append(stages["teacher"]["seconds"])
            spent["folds"].append(stages["teacher"]["folds"]["seconds"])
            spent["student"].append(stages["seconds"])
    return scores, seconds


def build_tables(scores: Scores, seconds: Seconds) -> str:
    """Of each number of labels: means and SDs, differences, ratios of SDs, and what each stage costs."""
    parts = []
    for labels, of_labels in sorted(scores.items(), reverse=True):
        pairs = {
            (student, other, dataset): both
            for student, other in COMPARED
            for dataset, each in of_labels.items()
            if len((both := paired(each, student, other))[0]) >= LEAST
        }
        parts += [f"**{labels} labels.** Means ± SDs:", _means(of_labels)]
        parts += ["Differences, paired by seed:", _compared(pairs, of_labels, _difference)]
        parts += ["SD over SD:", _compared(pairs, of_labels, _ratio, [TEACHER, TEACHER_BY_AUTO, "default"])]
        cost = [
            {"stage": stage, "seconds": f"{np.median(each):.0f}", "cells": len(each)}
            for stage, each in seconds[labels].items()
        ]
        parts += ["Median cost:", markdown_table(pd.DataFrame(cost))]
    return "\n\n".join(parts)


def paired(scores: dict[str, Seeds], first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the seeds that both have, in their order."""
    one, other = scores.get(first, {}), scores.get(second, {})
    seeds = sorted(one.keys() & other.keys())
    return np.array([one[seed] for seed in seeds]), np.array([other[seed] for seed in seeds])


def _means(scores: dict[str, dict[str, Seeds]]) -> str:
    names = (TEACHER, *STUDENTS[:3], TEACHER_BY_AUTO, OF_AUTO, *OTHERS)
    rows = [
        {"what": name, **{dataset: _spread(each[name]) for dataset, each in scores.items() if each.get(name)}}
        for name in names
        if any(each.get(name) for each in scores.values())
    ]
    return markdown_table(pd.DataFrame(rows).fillna(""))


def _compared(
    pairs: dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]],
    datasets: Iterable[str],
    told: Callable[[np.ndarray, np.ndarray], str],
    only: Sequence[str] | None = None,
) -> str:
    """A row for each pair, a column for each dataset, whose head has the number of seeds."""
    of_dataset = {
        dataset: [len(both[0]) for (_, _, at), both in pairs.items() if at == dataset] for dataset in datasets
    }
    heads = {dataset: f"{dataset}, {max(counts)} seeds" for dataset, counts in of_dataset.items() if counts}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for (student, other, dataset), (mine, its) in pairs.items():
        if only is None or other in only:
            row = rows.setdefault((student, other), {"student": student.removeprefix("student, "), "to": other})
            few = "" if len(mine) == max(of_dataset[dataset]) else f" [{len(mine)}]"
            row[heads[dataset]] = told(mine, its) + few
    return markdown_table(pd.DataFrame([*rows.values()], columns=["student", "to", *heads.values()]).fillna(""))


def _difference(mine: np.ndarray, its: np.ndarray) -> str:
    return _told(mean_interval(mine - its))


def _ratio(mine: np.ndarray, its: np.ndarray) -> str:
    found = pitman_morgan(mine, its)
    return _told((found.ratio, found.low, found.high))


def _spread(scores: Seeds) -> str:
    values = list(scores.values())
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def _told(estimate: tuple[float, float, float]) -> str:
    value, low, high = map(float, estimate)
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


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
