"""Write docs/which_strategy.md from the archives of this folder and the table of `auto`; `--check` compares only.

What `auto` takes is read from its table, and its scores are those of the cells of a study that trained this. Where the
table changes, the page says that nothing is measured of it until STUDIES names a study that has it.

python results/which_strategy.py
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from deni.auto.decide import choose
from deni.auto.facts import Facts
from deni.auto.row import Row
from deni.auto.table import ROWS
from deni.data.named_datasets import DATASETS
from deni.measures import mean_interval, sd_interval
from deni.report.text_tables import markdown_table
from deni.study.cell import Cell

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "which_strategy.md"


@dataclass(frozen=True)
class Study:
    """A study that has measured on such texts.

    Args:
        name: of the study.
        texts: what texts these are.
        said: what a reader has to know of it.
    """

    name: str
    texts: str
    said: str


CHOSEN_ON = "Dev splits on which the row of `auto` was chosen, which flatters it."
STUDIES = (
    Study(
        "confirmation",
        "200 labeled texts",
        "Test splits of datasets that had no part in choosing. The encoder was read by its pooler here; `auto` reads "
        "it by the mean of its tokens, which [scored higher](../results/features.md) on dev splits.",
    ),
    Study("few_snips", "3 or 10 labeled texts of each of seven classes", CHOSEN_ON),
    Study("few_db_pedia", "3 or 10 labeled texts of each of 14 classes", CHOSEN_ON),
    Study("pairs", "200 labeled pairs of texts", CHOSEN_ON),
    Study(
        "claims", "500 labeled texts", "Test splits, the encoder read by its pooler. What `auto` takes is not measured."
    ),
)
OTHERS = {
    "frozen": "the frozen encoder with logistic regression",
    "tfidf": "words with logistic regression",
    "default": "plain fine-tuning",
    "ensemble": "an ensemble of ten",
    "deni": "DENI",
}  # name, with its own settings -> what it is


AUTO = "what auto takes"


class Kind(NamedTuple):
    """Runs that differ in the seed alone: of which texts, decided by which row of `auto`, and what was trained."""

    dataset: str
    classes: int
    labeled: int
    row: str
    what: str


@dataclass
class Runs:
    """Macro F1 in points of each seed, and member-steps of a run."""

    scores: list[float] = field(default_factory=list)
    steps: float = 0.0


def row_for(cell: Cell, classes: int) -> Row:
    """The row of `auto` that decides for the texts of a cell, all of whose models here are sentence encoders."""
    examples, pairs = labeled_in(cell), DATASETS[cell.dataset["name"]].pair is not None
    each = examples // classes
    return choose(Facts("single_label", examples, classes, each, each, each, pairs, "sentence", "bert"))


def labeled_in(cell: Cell) -> int:
    """How many labeled texts it trains on."""
    assert cell.labelled is not None
    return cell.labelled


def trains_as(row: Row, cell: Cell) -> bool:
    """Whether a cell trains as this row of `auto` does, apart from rates and from how the encoder is read."""
    settings = {**row.strategy_settings, **{name: row.recipe[name] for name in ("epochs",) if name in row.recipe}}
    told = (cell.strategy.name, dict(cell.strategy.settings), cell.tuning.name)
    return told == (row.strategy, settings, row.tuning) and pairs_of(cell.recipe) == pairs_of(row.recipe)


def pairs_of(recipe: Mapping[str, Any]) -> str:
    """How pairs are encoded."""
    return str(recipe.get("pairs", "cross"))


def read_study(study: Study) -> dict[Kind, Runs]:
    """What is shown of a study."""
    frame = pd.read_parquet(HERE / f"{study.name}.parquet", columns=["spec", "labels", "metrics", "cost", "status"])
    if failed := int((frame["status"] != "done").sum()):
        raise SystemExit(f"{study.name}: {failed} cells without a result: this page has no column for them")
    found: dict[Kind, Runs] = defaultdict(Runs)
    for line in frame.itertuples(index=False):
        cell, classes = Cell.from_json(json.loads(line.spec)), len(json.loads(line.labels))
        row, name = row_for(cell, classes), cell.strategy.name
        if trains_as(row, cell):
            what = AUTO
        elif name in OTHERS and not cell.strategy.settings and pairs_of(cell.recipe) == "cross":
            what = OTHERS[name]
        else:
            continue
        runs = found[Kind(cell.dataset["name"], classes, labeled_in(cell), row.name, what)]
        runs.scores.append(100 * json.loads(line.metrics)["macro_f1"])
        runs.steps = float(json.loads(line.cost)["member_steps"])
    return found


def table_of(found: Mapping[Kind, Runs]) -> str:
    """The scores of a study: a row of each dataset, number of labeled texts and strategy, the best first."""
    plain = {kind[:3]: runs.steps for kind, runs in found.items() if kind.what == OTHERS["default"]}
    rows = []
    for kind in sorted(found, key=lambda kind: (kind[:3], -np.mean(found[kind].scores))):
        scores, steps = found[kind].scores, found[kind].steps
        rows.append(
            {
                "dataset": kind.dataset,
                "classes": kind.classes,
                "labeled": kind.labeled,
                "what": kind.what,
                "macro F1": _told(mean_interval(scores)) if np.ptp(scores) else f"{scores[0]:.1f}",
                "SD": _told(sd_interval(scores)) if np.ptp(scores) else "0.0",
                **({"trainings": f"{steps / plain[kind[:3]]:.3g}"} if plain else {}),
                "seeds": len(scores),
            }
        )
    return markdown_table(pd.DataFrame(rows))


def _told(estimate: Sequence[float]) -> str:
    value, low, high = map(float, estimate)
    return f"{value:.1f} ({low:.1f} to {high:.1f})"


# ---- the page --------------------------------------------------------------------------------------------------------

HEAD = """\
# Which strategy for which texts

<!-- written by results/which_strategy.py -->

So many labels, so many classes, so much time: what to take, and what to expect. Take `auto`, the default of
`deni train`, unless a table here says something else for texts like yours. All scores are of one small sentence encoder
(MiniLM, 22 million parameters) with LoRA. For other models, and for tasks other than one class a text, they are a
guess; [`deni diagnose`](diagnose.md) measures your own texts, and a [study](studies.md) compares strategies on them.
[Strategies](strategies/index.md) explains each of them, and [statistics](statistics.md) the intervals.

## What auto takes

The first row that fits decides. `deni show auto FILE` says which one it is for your texts.
"""
TIMES = (  # time for, take, how
    (
        "no training",
        "`frozen`, logistic regression on the frozen encoder",
        '[`deni.baselines.BaselineClassifier("frozen")`](baselines.md); `deni train` reports it next to each model',
    ),
    ("one training, one model", "`auto`", "`deni train FILE --output model/`"),
    (
        "ten trainings and ten passes a text",
        "`ensemble`, where it is above `auto` below",
        "`deni train FILE --strategy ensemble --output model/`",
    ),
    (
        "ten trainings and one pass, with texts without labels",
        "a [student](distillation.md) of ten models",
        "`deni train FILE --unlabeled POOL --output model/`",
    ),
)
EXPECT = """\
## What to expect

Macro F1 in points: mean and SD over seeds, with 95 % intervals, the best first. The cost is in trainings by plain
fine-tuning, where that was measured. Intervals are about other seeds: with other labeled texts of the same dataset
scores may differ by more.
"""


def build_page() -> str:
    """The page; raises SystemExit for a row of `auto` that no study measured and that does not say so."""
    return "\n".join([*_lines(), ""])


def _lines() -> Iterator[str]:
    yield HEAD
    yield from _table(("your texts", "auto is", "why", "evidence"), [_row(row) for row in ROWS])
    yield from ("", "## By the time there is", "", *_table(("time for", "take", "how"), TIMES), "", EXPECT)
    measured = set()
    for study in STUDIES:
        found = read_study(study)
        measured |= {kind.row for kind in found if kind.what == AUTO}
        yield from (f"### {study.texts[0].upper()}{study.texts[1:]}", "")
        yield from (f"{study.said} [All numbers](../results/{study.name}.md).", "", table_of(found), "")
    if missing := [row.name for row in ROWS if row.name not in measured and not _waits(row)]:
        raise SystemExit(
            f"no study of STUDIES has what auto takes for {', '.join(missing)}: name one, or say provisional"
        )
    yield "Not measured: encoders that are no sentence encoders, several labels a text, regression, tokens."


def _waits(row: Row) -> bool:
    return row.evidence.startswith("provisional")


def _row(row: Row) -> tuple[str, ...]:
    named = re.findall(r"results/(\w+)\.yaml", row.evidence)
    links = ", ".join(f"[{name}](../results/{name}.md)" for name in named)
    return (
        row.when(),
        f"`{row.strategy}` {row.becomes().removeprefix(row.strategy).strip()}",
        row.why,
        links or row.evidence,
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table whose cells have markup."""
    return [f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        PAGE.write_text(build_page(), encoding="utf-8")
        print(f"wrote {PAGE}")
    elif PAGE.read_text(encoding="utf-8") != build_page():
        sys.exit(f"{PAGE} is not what the archives and the table of auto say: run results/which_strategy.py")


if __name__ == "__main__":
    main()
