"""One training as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from deni.analysis.performance import FEW, Performance
from deni.report.html.frame import Column, json_value, render_page, table_of
from deni.report.html.page import fork_columns
from deni.report.numbers import number
from deni.report.training.answers import shown_answers
from deni.report.training.calibration import coverage_rows, coverage_table, reliability_rows, reliability_table
from deni.report.training.cross_validation import fold_columns
from deni.report.training.distillation import model_columns, state_distillation
from deni.report.training.summary import TrainingSummary
from deni.report.training.tiles import build_tiles, cut
from deni.report.training.verdict import state_verdict
from deni.report.training.wrong_labels import shown_labels
from deni.tasks import TASKS
from deni.tasks.examining import UncertainText

MOST_CLASSES = 30  # of the confusion matrix; of more, those with the most errors
MOST_CONFUSED = 10  # pairs of classes that are listed


def build_page(summary: TrainingSummary, title: str) -> str:
    """The page as HTML; every text and name in it is escaped."""
    from deni.report.training.figures import build_figures

    drawn, rows = build_figures(summary)
    tables = {
        name: [{key: json_value(value) for key, value in row.items()} for row in some] for name, some in rows.items()
    }
    figures = [
        {"name": each.name, "title": each.title, "tables": dict(each.tables), "spec": each.spec} for each in drawn
    ]
    test = summary.on_test
    shown = {"forks": table_of(_forks(summary.forks))} if len(summary.forks) else {}
    if summary.cross_validation is not None:
        shown["folds"] = table_of(fold_columns(summary.cross_validation, TASKS[summary.settings["recipe"]["task"]]))
    if summary.distillation is not None:
        shown["models"] = table_of(model_columns(summary.distillation, TASKS[summary.settings["recipe"]["task"]]))
    if test is not None and len(test.per_label):
        shown["labels"] = table_of(_labels(test.per_label, test))
    if test is not None and len(test.reliability):
        shown["bins"] = table_of(_bins(test.reliability, test))
    for name, frame, columns in (
        ("temperature", reliability_rows(summary.calibration), reliability_table),
        ("coverage", coverage_rows(summary.abstention), coverage_table),
    ):
        if len(frame):
            shown[name] = table_of(columns(frame))
    return render_page(
        "training",
        title,
        {"tables": tables, "figures": figures},
        summary=summary,
        test=test,
        verdict=state_verdict(summary),
        tiles=build_tiles(summary),
        figures={each.name: each for each in drawn},
        marks=[],
        shown=shown,
        matrix=_matrix(test) if test is not None and test.confusion is not None else None,
        confused=test.confused[:MOST_CONFUSED] if test is not None else [],
        uncertain=[_text(each) for each in test.uncertain] if test is not None else [],
        wrong_labels=shown_labels(summary.wrong_labels),
        distillation=state_distillation(summary.distillation, TASKS[summary.settings["recipe"]["task"]]),
        few=FEW,
        answers=summary.answers,
        wrong_answers=shown_answers(summary.answers),
        missing=summary.missing,
        settings=yaml.safe_dump(_plain(summary.settings), sort_keys=False, allow_unicode=True, width=100),
        environment=", ".join(f"{name} {value}" for name, value in summary.environment.items()),
        number=number,
    )


def _matrix(test: Performance) -> dict[str, Any]:
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
                "count": int(confusion[gold, predicted]),
                "share": int(confusion[gold, predicted]) / max(total, 1),
                "own": gold == predicted,
            }
            for predicted in some
        ]
        rows.append({"name": test.labels[gold], "total": total, "cells": cells})
    return {"heads": [test.labels[at] for at in some], "rows": rows, "left": len(confusion) - len(some)}


def _labels(frame: pd.DataFrame, test: Performance) -> list[Column]:
    return [
        Column("class" if test.confusion is not None else "label", frame["label"].tolist(), number=False),
        Column(test.examples if test.examples == "words" else "texts", [f"{value:,}" for value in frame["gold"]]),
        Column("predicted", [f"{value:,}" for value in frame["predicted"]]),
        Column("F1", [number(value, 1) for value in frame["f1"]]),
    ]


def _bins(frame: pd.DataFrame, test: Performance) -> list[Column]:
    return [
        Column("confidence, %", [number(value, 1) for value in frame["confidence"]]),
        Column("accuracy, %", [number(value, 1) for value in frame["accuracy"]]),
        Column(test.examples, [f"{value:,}" for value in frame["count"]]),
    ]


def _forks(frame: pd.DataFrame) -> list[Column]:
    return [column for column in fork_columns(frame) if column.title != "runs"]


def _text(each: UncertainText) -> dict[str, Any]:
    parts = [cut(part, 400) for part in each.parts]
    return {"parts": parts, "gold": each.gold, "predicted": each.predicted, "right": each.right} | {
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
