"""Cells that wait, and results drawn at random: what a store keeps."""

from dataclasses import replace

import numpy as np

from deni.study.cell import Cell, CellResult, Fingerprints, NamedSettings
from deni.study.execution.job import Job

VERSIONS = {"torch": "2"}
CELL = Cell(
    {"name": "tickets.csv"}, "some/model", NamedSettings("full"), NamedSettings("default"), 100, seed=0, block=0
)


def planned(count: int = 4, **changed) -> list[Job]:
    return [Job.of(replace(CELL, seed=seed, **changed), Fingerprints("d", "m"), VERSIONS, 10) for seed in range(count)]


def a_result(seed: int = 0, texts: int = 5, merged: bool = False) -> CellResult:
    draw = np.random.default_rng(seed)
    return CellResult(
        draw.normal(size=(texts, 3, 2)),
        draw.integers(2, size=texts),
        draw.permutation(texts),
        ("no", "yes"),
        "d",
        metrics={"macro_f1": np.float32(0.5), "accuracy": 0.25},
        cost={"member_steps": np.int64(12), "seconds": 1.5},
        diagnostics={"engine": "stacked"},
        environment={"torch": "2"},
        merged=draw.normal(size=(texts, 2)) if merged else None,
    )


FORMAT_1 = """
CREATE TABLE cells (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, decides TEXT NOT NULL,
    status TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, arrays BLOB, labels TEXT, fingerprint TEXT,
    metrics TEXT, cost TEXT, diagnostics TEXT, environment TEXT, traceback TEXT, added TEXT NOT NULL, started TEXT,
    finished TEXT
);
PRAGMA application_id = 0x64656e69;
PRAGMA user_version = 1;
"""
