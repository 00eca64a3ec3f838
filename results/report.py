"""Write a page of each archive of this folder beside it, and its figures; `--check` fails where they differ.

The pages have every number. docs/reproduction.md tells what they show; its figures are here, too.

python results/report.py claims
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deni.analysis.claims import NOT_EQUAL, state_claims
from deni.analysis.runs import WHERE, Runs, read_runs
from deni.analysis.tables import Tables, build_tables
from deni.report.repeat import plan_repeat
from deni.report.svg import draw_svgs
from deni.report.text_tables import build_overview, markdown_sections, markdown_table, shared_by
from deni.study.spec.grid import read_grid
from deni.study.store.archive import opened
from deni.study.store.table import called

HERE = Path(__file__).parent
IMAGES = HERE.parent / "docs" / "images" / "reproduction"
FIGURES = ("cost-mean", "cost-sd", "seeds")
BASELINES = {
    "claims": ("default", "best_practices", "ensemble"),
    "recipes": ("default", "ensemble"),
    "confirmation": ("default", "ensemble"),
    "fork": ("default", "delayed_ensemble"),
    "sensitivity": ("delayed_ensemble", "noisy_interpolation"),
    "features": ("random head (pooling=pooler, learning_rate=0.0003, head_lr_scale=1)",),
    "features_rest": ("random head (pooling=pooler, learning_rate=0.0003, head_lr_scale=1)",),
    "features_normalized": ("random head (head_lr_scale=1)",),
    "features_bi": ("probe by cv (normalize_features=False, head_lr_scale=1)",),
    "features_full": ("random head (learning_rate=0.0001)",),
    "recipes2": ("default", "ensemble"),
    "few_snips": ("frozen", "tfidf"),
    "few_db_pedia": ("frozen", "tfidf"),
    "pairs": ("frozen", "tfidf"),
    "fork_full": ("default", "head 0.15"),
    "interpolation_full": ("default", "head 0.15"),
    "distillation": ("default", "auto"),
    "other_pool": ("student, texts of snips",),
    "precision": ("auto, bf16=False",),
    "few_distillation": ("default", "auto"),
    "auto_students": ("student of auto, all texts",),
}
AS_STRATEGIES = {"precision": ("bf16",)}  # fields of the recipe that the study compares
AS_ONE_MODEL = ("recipes", "recipes2")  # what is chosen is one model at inference; the vote of an ensemble stays one


def build_page(name: str) -> tuple[str, dict[str, str]]:
    """The page of a study, and the figures on it: name -> SVG."""
    with opened(HERE / f"{name}.parquet") as store:
        runs = read_runs(
            store, as_one_model=name in AS_ONE_MODEL, labels=labels_of(name), as_strategies=AS_STRATEGIES.get(name, ())
        )
    known = [each for each in BASELINES[name] if each in runs.strategies] or [runs.strategies[0]]
    tables = {baseline: _without(build_tables(runs, baseline), known[:at]) for at, baseline in enumerate(known)}
    drawn = {_file(title): svg for title, svg in draw_svgs(tables[known[0]]) if title.startswith(FIGURES)}
    return "\n".join([*_head(name, runs, tables[known[0]]), *_body(name, tables, drawn), ""]), drawn


def labels_of(name: str) -> dict[str, str]:
    """Name and settings of each strategy that has a label in the study -> its label; archives may be older than it."""
    cells = [point.cell for point in read_grid(HERE / f"{name}.yaml").points()]
    return {called(dataclasses.replace(cell, label="")): called(cell) for cell in cells if cell.label}


def _file(title: str) -> str:
    """Without what addresses of pages write otherwise."""
    return title.replace("=", "-")


def _without(tables: Tables, strategies: Sequence[str]) -> Tables:
    """Without comparisons of these: they are in the tables where the others are compared with them."""
    found: dict[str, Any] = {}
    for frame in ("comparisons", "overall_comparisons"):
        rows = getattr(tables, frame)
        found[frame] = rows if rows.empty else rows[~rows["strategy"].isin(strategies)]
    for listed in ("against_baseline", "overall_against"):
        found[listed] = [each for each in getattr(tables, listed) if each.first.strategy not in strategies]
    return dataclasses.replace(tables, **found)


def _head(name: str, runs: Runs, tables: Tables) -> Iterator[str]:
    study = (HERE / f"{name}.yaml").read_text(encoding="utf-8")
    question, _, rest = study.partition("\n")
    planned, done = len(list(read_grid(HERE / f"{name}.yaml").points())), len(tables.each_run)
    yield from (f"# {name.capitalize()}", "", question.removeprefix("# "), "")
    yield f"Written by `results/report.py` from `results/{name}.parquet` (SHA-256 {sha_of(name)}), which"
    yield f"`results/run.py` made of [results/{name}.yaml]({name}.yaml):"
    yield from ("", "```yaml", rest.strip(), "```", "")
    if done < planned:
        yield from (f"**Not finished: {done} of {planned} runs are done.** What follows is of these.", "")
    said = ", ".join(f"{key} {value}" for key, value in shared_by(tables).items() if value)
    failed = int(tables.results["no_result"].sum())
    yield f"In all settings: {said}. Scores are macro F1 in points. Without a result: {failed} of {done + failed} runs."
    yield from ("", "What it ran with:", "")
    yield from (f"- {count:,} runs: {line}" for line, count in plan_repeat(runs.rows, f"{name}.db").environments)


def sha_of(name: str) -> str:
    """The beginning of the digest of a study's archive: a page that names another one is of other results."""
    return hashlib.sha256((HERE / f"{name}.parquet").read_bytes()).hexdigest()[:12]


def _overview(*tables: Tables) -> str:
    """In two tables, since one would be too wide: scores, and comparisons; with what they are of."""
    whole = build_overview(*tables).drop(columns=shared_by(tables[0]), errors="ignore")
    compared = [name for name in whole if name.startswith(("minus ", "SD / "))]
    named = [name for name in whole if name in WHERE]
    said = [f"{what}: {_each(tables[0].results[what])}" for what in ("seeds", "blocks", "texts")]
    note = f"In each setting, {', '.join(said)}. Failed: at chance or without a result. In brackets: 95 % intervals."
    return f"{markdown_table(whole.drop(columns=compared))}\n\n{markdown_table(whole[named + compared])}\n\n{note}"


def _each(counts: pd.Series) -> str:
    return " or ".join(dict.fromkeys(map(str, counts)))


def _body(name: str, tables: dict[str, Tables], drawn: dict[str, str]) -> Iterator[str]:
    first, *others = tables
    yield from ("", "## Overview", "", "<!-- overview -->", "", _overview(*tables.values()), "", "<!-- /overview -->")
    for kind, title in (("shown", "Shown"), ("not shown", "Not shown"), ("limit", "What these runs cannot say")):
        sentences = [each.text for baseline in tables for each in state_claims(tables[baseline]) if each.kind == kind]
        if sentences:
            yield from ("", f"## {title}", "", *([NOT_EQUAL, ""] if kind == "not shown" else []))
            yield from (f"- {text}" for text in dict.fromkeys(sentences))
    for title, table in markdown_sections(tables[first]).items():
        if title != "Overview":
            mark = title.lower().replace(" ", "-")
            yield from ("", f"## {title}", "", f"<!-- {mark} -->", "", table, "", f"<!-- /{mark} -->")
    for baseline in others:
        compared = {title: table for title, table in markdown_sections(tables[baseline]).items() if baseline in title}
        for title, table in compared.items():
            yield from ("", f"## {title}", "", table)
    yield from ("", "## Figures")
    for title in drawn:
        yield from ("", f"![{title}](../docs/images/reproduction/{name}/{title}.svg)")


def write(name: str, check: bool) -> None:
    """Write a page and its figures, or find that they are what the archive says."""
    page, drawn = build_page(name)
    files = {HERE / f"{name}.md": page}
    folder = IMAGES / name
    files |= {folder / f"{title}.svg": svg for title, svg in drawn.items()}
    for old in folder.glob("*.svg") if not check else ():
        old.unlink()
    for path, text in files.items():
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            sys.exit(f"{path} is not what {name}.parquet says: run results/report.py {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"{'checked' if check else 'wrote'} {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    archived = [name for name in BASELINES if (HERE / f"{name}.parquet").exists()]
    parser.add_argument("studies", nargs="*", default=archived)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    for name in args.studies:
        write(name, args.check)


if __name__ == "__main__":
    main()
