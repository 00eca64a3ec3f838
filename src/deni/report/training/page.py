"""One training as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from deni.analysis.numbers import number
from deni.report.html.frame import Column, json_value, rendered, table_of
from deni.report.html.page import fork_columns
from deni.report.training.facts import Facts
from deni.report.training.tested import FEW, OnTest, Uncertain
from deni.report.training.words import cut, tiles_of

MOST_CLASSES = 30  # of the confusion matrix; of more, those with the most errors
MOST_CONFUSED = 10  # pairs of classes that are listed


def page_of(facts: Facts, title: str) -> str:
    """The page as HTML; every text and name in it is escaped."""
    from deni.report.training.figures import figures_of

    drawn, rows = figures_of(facts)
    tables = {
        name: [{key: json_value(value) for key, value in row.items()} for row in some] for name, some in rows.items()
    }
    figures = [
        {"name": each.name, "title": each.title, "tables": dict(each.tables), "spec": each.spec} for each in drawn
    ]
    test = facts.on_test
    shown = {"forks": table_of(_forks(facts.forks))} if len(facts.forks) else {}
    if test is not None and len(test.per_label):
        shown["labels"] = table_of(_labels(test.per_label, test))
    return rendered(
        "training",
        title,
        {"tables": tables, "figures": figures},
        facts=facts,
        test=test,
        tiles=tiles_of(facts),
        figures={each.name: each for each in drawn},
        marks=[],
        shown=shown,
        matrix=_matrix(test) if test is not None and test.confusion is not None else None,
        confused=test.confused[:MOST_CONFUSED] if test is not None else [],
        uncertain=[_text(each) for each in test.uncertain] if test is not None else [],
        few=FEW,
        missing=facts.missing,
        settings=yaml.safe_dump(_plain(facts.settings), sort_keys=False, allow_unicode=True, width=100),
        environment=", ".join(f"{name} {value}" for name, value in facts.environment.items()),
        number=number,
    )


def _matrix(test: OnTest) -> dict[str, Any]:
    """The confusion matrix: heads, and of each row its cells as count and share of the row."""
    confusion = test.confusion
    assert confusion is not None
    errors = confusion.sum(0) + confusion.sum(1) - 2 * confusion.diagonal()
    some = sorted((-errors).argsort(kind="stable")[:MOST_CLASSES].tolist())
    rows = []
    for gold in some:
        total = int(confusion[gold].sum())
        cells = [
            {
                "count": int(confusion[gold, said]),
                "share": int(confusion[gold, said]) / max(total, 1),
                "own": gold == said,
            }
            for said in some
        ]
        rows.append({"name": test.labels[gold], "total": total, "cells": cells})
    return {"heads": [test.labels[at] for at in some], "rows": rows, "left": len(confusion) - len(some)}


def _labels(frame: pd.DataFrame, test: OnTest) -> list[Column]:
    return [
        Column("class" if test.confusion is not None else "label", frame["label"].tolist(), number=False),
        Column(test.examples if test.examples == "words" else "texts", [f"{value:,}" for value in frame["gold"]]),
        Column("predicted", [f"{value:,}" for value in frame["predicted"]]),
        Column("F1", [number(value, 1) for value in frame["f1"]]),
    ]


def _forks(frame: pd.DataFrame) -> list[Column]:
    return [column for column in fork_columns(frame) if column.title != "runs"]


def _text(each: Uncertain) -> dict[str, Any]:
    parts = [cut(part, 400) for part in each.parts]
    return {"parts": parts, "gold": each.gold, "said": each.said, "right": each.right} | {
        "total": number(each.total, 2),
        "members": None if each.members is None else number(each.members, 2),
    }


def _plain(value: Any) -> Any:
    """As YAML writes it without tags."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
