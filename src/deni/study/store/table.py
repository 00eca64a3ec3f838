"""A store as a table: one row a cell, one column a setting, metric or cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from deni.data.write import bytes_of
from deni.errors import InputError
from deni.outputs import check_file, write_bytes
from deni.provenance import canonical
from deni.study.cell import Cell
from deni.study.store.rows import Row

FORMATS = ("csv", "parquet", "jsonl")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dots between the names; lists as JSON.

    >>> flat({"strategy": {"name": "deni", "settings": {"members": 5}}, "labels": ["a", "b"]})
    {'strategy.name': 'deni', 'strategy.settings.members': 5, 'labels': '["a","b"]'}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = canonical(list(value)) if isinstance(value, list | tuple) else value
    return found


def called(cell: Cell, part: Literal["strategy", "tuning"] = "strategy") -> str:
    """The name of a cell's strategy or tuning with the settings that were given; a label with those of a factor."""
    named = getattr(cell, part)
    label = cell.label if part == "strategy" else ""
    settings = {name: value for name, value in named.settings.items() if not label or name in cell.factor}
    told = ", ".join(f"{name}={value}" for name, value in sorted(flat(settings).items()) if name != "augmented")
    return f"{label or named.name} ({told})" if told else label or str(named.name)


def row_values(row: Row) -> dict[str, Any]:
    """A cell as one flat mapping: what it is, all settings with their defaults, what came out."""
    spec, decides = row.cell.to_json(), dict(row.decides)
    named = {
        "dataset": spec["dataset"],
        "model": spec["model"],
        "tuning": decides["tuning"],
        "strategy": {**decides["strategy"], **({"label": row.cell.label} if row.cell.label else {})},
        **{name: spec[name] for name in ("labelled", "measure", "test_size", "protocol", "preset", "block", "seed")},
        **{name: spec[name] for name in ("vary", "factor")},
        "seeds": decides["seeds"],
        "recipe": {**decides["recipe"], **spec["recipe"]},  # of what decides nothing only the cell knows
        **{name: decides[name] for name in ("fingerprints", "versions")},
    }
    about = {"key": row.key, "pack": row.pack, "study": row.study, "status": row.status, "attempts": row.attempts}
    came = {"metrics": row.metrics, "cost": row.cost, "diagnostics": row.diagnostics, "environment": row.environment}
    times = {"added": row.added, "started": row.started, "finished": row.finished, "reason": row.reason}
    return flat({**about, **named, **came, **times, "labels": row.labels})


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """One row a cell; columns in the order of their first cell, of one type each."""
    frame = pd.DataFrame([row_values(row) for row in rows])
    return frame.apply(_one_type)


def _one_type(column: pd.Series) -> pd.Series:
    """A column that mixes numbers and texts, as settings of one name may, becomes texts."""
    kinds = {type(value) for value in column.dropna()}
    if kinds == {int}:
        return column.astype("Int64")  # whole numbers stay whole where some are missing
    if kinds == {bool}:
        return column.astype("boolean")
    if kinds <= {int, float}:
        return column.astype(float)
    return column.map(lambda value: value if isinstance(value, str) or pd.isna(value) else canonical(value))


def write_table(rows: Iterable[Row], output: str | Path, kind: str, overwrite: bool = False) -> int:
    """Write a table, whole or not at all.

    Args:
        kind: one of `FORMATS`.
        overwrite: replace a file that is there.

    Returns:
        How many rows.

    Raises:
        InputError: no rows, or a file that is there or cannot be written.
    """
    output = check_file(output, overwrite)
    frame = to_frame(rows)
    if frame.empty:
        raise InputError(f"no cells to write to {output}: the store is empty")
    write_bytes(output, bytes_of(frame, f".{kind}"), overwrite, kept="the table is")
    return len(frame)
